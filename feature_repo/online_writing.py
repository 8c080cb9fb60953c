"""Write feature values to the online store: what every store promises, and the way from a frame to its bytes.

A write is atomic for each entity of a view: readers see its old values or its new ones. It replaces what is stored
unless that is newer, so that batches may come twice, late or in any order and the newest value stays. Readers take
values of their own definition alone: what was written under another one is missing to them, never mixed or mistaken.
"""

from datetime import datetime, timedelta
from typing import Protocol

import polars as pl

from configs.environments import Environment, SqliteOnlineStore
from configs.features import TableFeatures
from feature_repo.column_types import POLARS_TYPES
from feature_repo.online_layout import (
    NEVER,
    OnlineStoreError,
    OnlineView,
    epoch_microseconds,
    online_view,
)
from feature_repo.windows import EVENT_TIMESTAMP


class OnlineWriter(Protocol):
    """Writes one online store. May be used by several threads and processes at once.

    Frames are as `checked_rows` makes them. `as_of` is the moment, in microseconds, up to which a materialization
    knows everything: it replaces what an earlier materialization wrote and nothing of a later one, whatever the
    values' own moments, and what was written under another definition. A push has none, `NEVER`. Every method raises
    OnlineStoreError.
    """

    def prepare(self, view: OnlineView) -> None:
        """Make the store ready for a view that is new or has changed."""
        ...

    def write(self, view: OnlineView, rows: pl.DataFrame, as_of: int = NEVER) -> int:
        """Store the rows; gives how many replaced what was stored. Keys may repeat: then the newest row counts."""
        ...

    def prune(self, view: OnlineView, keep: pl.DataFrame, as_of: int, alive_since: int) -> int:
        """Delete entities that a full materialization as of `as_of` did not find, but never what was pushed since.

        What goes: values of another definition, of a materialization until `as_of`, or from before `alive_since`.
        """
        ...


def build_writer(environment: Environment) -> OnlineWriter:
    """The writer of the environment's online store. Opens nothing yet."""
    online = environment.feature_store.online
    if isinstance(online, SqliteOnlineStore):
        from feature_repo.online_sqlite import SqliteWriter

        return SqliteWriter(online.path)
    from feature_repo.online_redis import RedisWriter

    return RedisWriter(online)


def push_values(writer: OnlineWriter, group: TableFeatures, values: pl.DataFrame) -> int:
    """Store fresh values at once, as a stream does; gives how many rows were newer than, or as new as, those stored.

    Columns: the join keys, `event_timestamp` (UTC microseconds) and every feature of the group. Several processes
    may push the same entities at once: the newest value stays. Raises OnlineStoreError.
    """
    view = online_view(group)
    return writer.write(view, checked_rows(view, values))


def replace_values(
    writer: OnlineWriter, group: TableFeatures, values: pl.DataFrame, as_of: datetime, *, prune: bool
) -> tuple[int, int]:
    """Store what a materialization as of a moment found; gives how many rows it wrote, and deleted.

    With `prune`, `values` are all there are: other entities go, unless something newer was pushed for them.
    """
    view, moment = online_view(group), epoch_microseconds(as_of)
    rows = checked_rows(view, values)
    written = writer.write(view, rows, moment)
    if not prune:
        return written, 0
    alive_since = moment - group.time_to_live // timedelta(microseconds=1) if group.time_to_live else NEVER
    return written, writer.prune(view, rows, moment, alive_since)


def checked_rows(view: OnlineView, values: pl.DataFrame) -> pl.DataFrame:
    """Columns: the join keys by name, `event_timestamp` in microseconds, the features; all of their declared types.

    Rows with a null join key are left out, and NaN is null, as in Feast. Raises OnlineStoreError.
    """
    _check_columns(view, values)
    kinds = {**view.join_keys, **view.features}
    known = values.with_columns(pl.selectors.float().fill_nan(None)).drop_nulls(list(view.join_keys))
    moments = known[EVENT_TIMESTAMP].dt.epoch("us")
    columns = [_unchanged(view.name, known[name], kind) for name, kind in kinds.items()]
    return pl.DataFrame([moments, *columns]).select(*sorted(view.join_keys), EVENT_TIMESTAMP, *view.features)


def _unchanged(view: str, values: pl.Series, kind: str) -> pl.Series:
    """The values in the declared type. Raises OnlineStoreError where that would change one."""
    wanted, given = POLARS_TYPES[kind], values.dtype
    if given == wanted:
        return values
    if values.null_count() == len(values):
        return pl.Series(values.name, [None] * len(values), wanted)
    are_numbers = wanted.is_numeric() and (given.is_numeric() or given == pl.Boolean)
    if are_numbers or (wanted == pl.String and given in (pl.Categorical, pl.Enum)):
        converted = values.cast(wanted, strict=False)
        if converted.cast(given, strict=False).equals(values):
            return converted
    raise OnlineStoreError(
        f"{view}.{values.name} is declared {kind}, and {values.dtype} values cannot be stored as that unchanged.\n"
        "Hint: convert the column before, so that what is lost is your decision."
    )


def _check_columns(view: OnlineView, values: pl.DataFrame) -> None:
    given = set(values.columns)
    missing = [name for name in (*view.join_keys, EVENT_TIMESTAMP, *view.features) if name not in given]
    if missing:
        raise OnlineStoreError(
            f"Values of {view.name} lack {', '.join(missing)}.\n"
            f"Hint: give its join keys, {EVENT_TIMESTAMP!r} and all of its features."
        )
    if values[EVENT_TIMESTAMP].null_count() or getattr(values.schema[EVENT_TIMESTAMP], "time_zone", None) != "UTC":
        raise OnlineStoreError(
            f"Values of {view.name} need a UTC {EVENT_TIMESTAMP!r} in every row, "
            f"not {values.schema[EVENT_TIMESTAMP]} with {values[EVENT_TIMESTAMP].null_count()} nulls.\n"
            "Hint: convert the column, and leave out what has no moment."
        )
