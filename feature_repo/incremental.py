"""A declared group's values from micro-batches of new rows: the same rows, to the last bit, as from all history.

The state holds the events that can still matter and nothing older, so it is bounded by the group's longest window and
allowed lateness. It can be saved and restored: a run that starts again from a saved state and the rows after it gives
the same values.

- A row that arrives late, but within `allowed_lateness`, changes values that were given out before: they are given out
  again, and replace the former by join keys and timestamp.
- A row that arrives later than that is not used. It comes back in `Changes.too_late`, for the caller to keep; the next
  build over all history counts it.
- A row that repeats an event key is no new event: the first known counts, whichever arrives first.
- A row whose moment has not come yet waits in the state.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from configs.errors import MlwayError
from configs.features import EventFeatures, WindowedFeatures
from feature_repo.aggregations import (
    EVENT_KEY,
    change_points,
    events_of,
    first_known,
    in_shape,
    newest_of_ties,
    retention,
)
from feature_repo.services import group_digest
from feature_repo.windows import EVENT_TIMESTAMP, window_values

_METADATA = "mlway.state"


class StateError(MlwayError):
    """A saved state cannot be used."""


@dataclass(frozen=True)
class State:
    """What must be remembered between micro-batches of one group."""

    group: EventFeatures
    events: pl.DataFrame | None = None
    until: datetime | None = None
    position: Mapping[str, Any] = field(default_factory=dict)
    """The caller's own account of what has been read, such as a stream's offsets; saved with the rest."""

    def save(self, path: Path) -> None:
        """Write the state to a Parquet file, whole or not at all."""
        if self.events is None or self.until is None:
            raise ValueError("a state that has seen nothing cannot be saved")
        told = {
            "definition": group_digest(self.group),
            "until": self.until.isoformat(),
            "position": dict(self.position),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".unfinished")
        with unfinished.open("wb") as file:
            self.events.write_parquet(file, metadata={_METADATA: json.dumps(told)})
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    @classmethod
    def load(cls, group: EventFeatures, path: Path) -> "State":
        """A saved state. Raises StateError when it is missing, unreadable, or of another definition of the group."""
        try:
            told = json.loads(pl.read_parquet_metadata(path)[_METADATA])
            events = pl.read_parquet(path)
        except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
            raise StateError(
                f"The state {path} of {group.name!r} cannot be read: {error}.\n"
                "Hint: delete it and start from the table's history."
            ) from error
        if told["definition"] != group_digest(group):
            raise StateError(
                f"The state {path} belongs to another definition of {group.name!r}.\n"
                "Hint: delete it and start from the table's history."
            )
        return cls(group, events, datetime.fromisoformat(told["until"]), told["position"])


@dataclass(frozen=True)
class Changes:
    """What a micro-batch brought.

    `values`: rows of the group's values, shaped as `feature_values` gives them, which are new or replace the former row
    of the same join keys and timestamp. `too_late`: events that arrived later than allowed.
    """

    values: pl.DataFrame
    too_late: pl.DataFrame


def advance(
    state: State, rows: pl.DataFrame, until: datetime, position: Mapping[str, Any] | None = None
) -> tuple[State, Changes]:
    """Take in new rows of the group's table, in any order, and move to the moment `until`.

    Returns the next state and what changed. Raises ValueError when `until` lies before the state's own moment.
    """
    if state.until is not None and until < state.until:
        raise ValueError(f"{state.group.name}: {until} lies before {state.until}, up to which values were given out")
    group, keys = state.group, list(state.group.join_keys)
    arrived = events_of(group, rows.lazy()).collect()
    too_late = arrived.clear()
    if state.until is not None:
        in_time = pl.col(EVENT_TIMESTAMP) > state.until - group.allowed_lateness
        arrived, too_late = arrived.filter(in_time), arrived.filter(~in_time)
    before = arrived.clear() if state.events is None else state.events
    events = first_known(group, pl.concat([before, arrived]).lazy()).collect()
    moments = _moments(group, keys, _changed(before, arrived, events), events, state.until, until)
    values = _values_at(group, keys, events, moments)
    kept = events.filter(pl.col(EVENT_TIMESTAMP) > until - retention(group))
    told = state.position if position is None else position
    return State(group, kept, until, told), Changes(values, too_late)


def _changed(before: pl.DataFrame, arrived: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Events that are new, and events that gave way to one known earlier."""
    if not any(column.startswith(EVENT_KEY) for column in events.columns):
        return arrived
    columns = list(events.columns)
    gone = before.join(events, on=columns, how="anti", nulls_equal=True)
    new = events.join(before, on=columns, how="anti", nulls_equal=True)
    return pl.concat([gone, new])


def _moments(
    group: EventFeatures,
    keys: list[str],
    changed: pl.DataFrame,
    events: pl.DataFrame,
    since: datetime | None,
    until: datetime,
) -> pl.DataFrame:
    """The moments up to `until` whose values are new or may differ from those given out: join keys, timestamp."""

    def points(rows: pl.DataFrame) -> pl.DataFrame:
        if isinstance(group, WindowedFeatures):
            return change_points(group, rows.lazy()).collect()
        return rows.select(*keys, EVENT_TIMESTAMP).unique()

    moment = pl.col(EVENT_TIMESTAMP)
    come = points(events).filter(moment <= until)
    if since is None:
        return come
    # A late event changes its entity's values from its own moment on, as far as a window reaches.
    late = changed.filter(moment <= since).group_by(keys).agg(moment.min().alias("__from"))
    redone = come.join(late, on=keys, how="inner").filter(moment >= pl.col("__from")).drop("__from")
    repeated = points(changed).filter(moment <= until)
    return pl.concat([come.filter(moment > since), redone, repeated]).unique()


def _values_at(group: EventFeatures, keys: list[str], events: pl.DataFrame, moments: pl.DataFrame) -> pl.DataFrame:
    if isinstance(group, WindowedFeatures):
        concerned = events.lazy().join(moments.lazy().select(keys).unique(), on=keys, how="semi")
        values = window_values(group, concerned, moments.lazy())
    else:
        there = events.lazy().join(moments.lazy(), on=[*keys, EVENT_TIMESTAMP], how="semi")
        values = newest_of_ties(group, there)
    return in_shape(group, values).collect()
