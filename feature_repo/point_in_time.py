"""The point-in-time join: for every entity row, the newest value of each view that is not after the row's timestamp.

A left join: every entity row comes back once, in order, duplicates included. A value older than its ttl is null.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

UTC_MICROSECONDS = pl.Datetime("us", "UTC")
TIMESTAMP_SUFFIX = "__event_timestamp"
"""A view's column that says from when its values are is called after the view, with this suffix."""
_ROW = "__row"


@dataclass(frozen=True)
class View:
    """One table of values to join.

    `values` holds the keys under the entity frame's names, the features under their final names, and a UTC timestamp
    in column `timestamp_column`; with `created_column`, of two values with one timestamp the later created wins.
    """

    values: pl.LazyFrame
    keys: Sequence[str]
    features: Sequence[str]
    timestamp_column: str
    created_column: str | None
    ttl: timedelta
    known_only_after_creation: bool = False


def point_in_time_join(entities: pl.LazyFrame, timestamp: str, views: Sequence[View]) -> pl.LazyFrame:
    """`entities` with the features of every view, and the timestamp of the value under `view.timestamp_column`.

    The moment of an entity row is its column `timestamp`, UTC. A ttl of zero never expires.
    """
    joined = entities.with_row_index(_ROW).sort(timestamp)
    for view in views:
        joined = _join(joined, timestamp, view)
    return joined.sort(_ROW).drop(_ROW)


def _join(left: pl.LazyFrame, timestamp: str, view: View) -> pl.LazyFrame:
    joined = left.join_asof(
        _usable(view),
        left_on=timestamp,
        right_on="__usable_from",
        by=list(view.keys) or None,
        strategy="backward",
        check_sortedness=False,
        coalesce=False,
    ).drop("__usable_from", *([view.created_column] if view.created_column else []))
    if not view.ttl:
        return joined
    alive = pl.col(view.timestamp_column) >= pl.col(timestamp) - view.ttl
    return joined.with_columns(
        pl.when(alive).then(pl.col(name)).alias(name) for name in (*view.features, view.timestamp_column)
    )


def _usable(view: View) -> pl.LazyFrame:
    """The view's values in the order in which they replace each other, with the moment from which each may be used."""
    order = [view.timestamp_column, *([view.created_column] if view.created_column else [])]
    if not (view.known_only_after_creation and view.created_column):
        return view.values.sort(order).with_columns(pl.col(view.timestamp_column).alias("__usable_from"))
    # A value written late is usable from its creation; at that moment it counts only if nothing newer is known yet.
    known = view.values.with_columns(pl.max_horizontal(order).alias("__usable_from")).sort("__usable_from", *order)
    newest = pl.col(view.timestamp_column).cum_max()
    return known.filter(pl.col(view.timestamp_column) >= (newest.over(list(view.keys)) if view.keys else newest))


def as_utc(column: str, kind: pl.DataType) -> pl.Expr:
    """`column` in UTC microseconds; a date is its midnight, a timestamp without a zone is UTC already."""
    zone = getattr(kind, "time_zone", None)
    if zone is None:
        return pl.col(column).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.col(column).cast(pl.Datetime("us", zone)).dt.convert_time_zone("UTC")
