"""A declared group's values from micro-batches of new rows: the same rows, to the last bit, as from all history.

The state holds the events that can still matter and nothing older, so it is bounded by the group's longest window and
allowed lateness. With an event key it also holds the keys of all older events, and so grows with their number: history
counts an event once, however late it is told again. It can be saved and restored: a run that starts again from a saved
state and the rows after it gives the same values.

- A row that arrives late, but within `allowed_lateness`, changes values that were given out before: they are given out
  again, and replace the former by join keys and timestamp.
- A row that arrives later than that is not used. It comes back in `Changes.too_late`, for the caller to keep; the next
  build over all history counts it.
- A row that repeats an event key is no new event: the first known counts, whichever arrives first. When it arrives
  last, the rows that its later version brought about are in `Changes.gone`.
- A row whose moment has not come yet waits in the state.
"""

import json
import os
from collections.abc import Iterable, Mapping
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
    has_event_key,
    in_shape,
    newest_of_ties,
    retention,
)
from feature_repo.services import group_digest
from feature_repo.windows import EVENT_TIMESTAMP, window_values

_METADATA = "mlway.state"
_IS_SEEN = "__is_seen"
_IS_GONE = "__is_gone"


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
    seen: pl.DataFrame | None = None
    """The event keys of events that are no longer held; None without an event key."""

    def save(self, path: Path) -> None:
        """Write the state to a Parquet file, whole or not at all."""
        if self.events is None or self.until is None:
            raise ValueError("a state that has seen nothing cannot be saved")
        told = {
            "definition": group_digest(self.group),
            "allowed_lateness": self.group.allowed_lateness.total_seconds(),
            "until": self.until.isoformat(),
            "position": dict(self.position),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".unfinished")
        with unfinished.open("wb") as file:
            self._rows(self.events).write_parquet(file, metadata={_METADATA: json.dumps(told)})
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    def _rows(self, events: pl.DataFrame) -> pl.DataFrame:
        """The events and, as rows that hold nothing else, the event keys seen."""
        held = events.with_columns(pl.lit(value=False).alias(_IS_SEEN))
        if self.seen is None:
            return held
        return pl.concat([held, self.seen.with_columns(pl.lit(value=True).alias(_IS_SEEN))], how="diagonal")

    @classmethod
    def load(cls, group: EventFeatures, path: Path) -> "State":
        """A saved state.

        Raises StateError when it is missing, unreadable, of another definition of the group, or when it was kept for
        rows that arrive less late than the group now allows: the events that such a row would meet are not in it.
        """
        try:
            told = json.loads(pl.read_parquet_metadata(path)[_METADATA])
            definition, lateness, until = told["definition"], told["allowed_lateness"], told["until"]
            rows = pl.read_parquet(path)
            events = rows.filter(~pl.col(_IS_SEEN)).drop(_IS_SEEN)
        except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
            raise _refusal(group, path, f"cannot be read: {error}") from error
        if definition != group_digest(group):
            raise _refusal(group, path, "belongs to another definition of it")
        if lateness < group.allowed_lateness.total_seconds():
            raise _refusal(group, path, f"was kept for an allowed_lateness of {lateness:g} s, less than there is now")
        seen = rows.filter(_IS_SEEN).select(_event_keys(group)) if group.event_key else None
        return cls(group, events, datetime.fromisoformat(until), told["position"], seen)


def _refusal(group: EventFeatures, path: Path, problem: str) -> StateError:
    return StateError(
        f"The state {path} of {group.name!r} {problem}.\nHint: delete it and start from the table's history."
    )


@dataclass(frozen=True)
class Changes:
    """What a micro-batch brought.

    `values`: rows of the group's values, shaped as `feature_values` gives them, which are new or replace the former row
    of the same join keys and timestamp. `gone`: the join keys and timestamps of rows given out before that are to be
    deleted. `too_late`: events that arrived later than allowed.
    """

    values: pl.DataFrame
    gone: pl.DataFrame
    too_late: pl.DataFrame


def merged(changes: Iterable[Changes]) -> pl.DataFrame:
    """What a table holds that takes the changes, of which there is at least one, in turn; sorted as values are."""
    steps: list[pl.DataFrame] = []
    for change in changes:
        gone = change.gone.with_columns(pl.lit(value=True).alias(_IS_GONE))
        steps += [gone, change.values.with_columns(pl.lit(value=False).alias(_IS_GONE))]
    keys = [column for column in steps[0].columns if column != _IS_GONE]
    last = pl.concat(steps, how="diagonal").unique(keys, keep="last", maintain_order=True)
    others = [key for key in keys if key != EVENT_TIMESTAMP]
    return last.filter(~pl.col(_IS_GONE)).select(pl.exclude(_IS_GONE)).sort(EVENT_TIMESTAMP, *others)


def advance(
    state: State, rows: pl.DataFrame, until: datetime, position: Mapping[str, Any] | None = None
) -> tuple[State, Changes]:
    """Take in new rows of the group's table, in any order, and move to the moment `until`.

    Returns the next state and what changed. Raises ValueError when `until` lies before the state's own moment.
    """
    if state.until is not None and until < state.until:
        raise ValueError(f"{state.group.name}: {until} lies before {state.until}, up to which values were given out")
    group = state.group
    arrived = events_of(group, rows.lazy()).collect()
    too_late = arrived.clear()
    if state.until is not None:
        in_time = pl.col(EVENT_TIMESTAMP) > state.until - group.allowed_lateness
        arrived, too_late = arrived.filter(in_time), arrived.filter(~in_time)
    if state.seen is not None:
        # What is no longer held was known before anything that may still arrive.
        arrived = arrived.join(state.seen, on=state.seen.columns, how="anti")
    before = arrived.clear() if state.events is None else state.events
    events = first_known(group, pl.concat([before, arrived]).lazy()).collect()
    new, replaced = _changed(group, before, arrived, events)
    moments = _moments(group, pl.concat([new, replaced]), events, state.until, until)
    values = _values_at(group, list(group.join_keys), events, moments)
    is_held = pl.col(EVENT_TIMESTAMP) > until - retention(group)
    told = state.position if position is None else position
    after = State(group, events.filter(is_held), until, told, _seen(state, events.filter(~is_held)))
    return after, Changes(values, _gone(group, replaced, events, state.until), too_late)


def _event_keys(group: EventFeatures) -> list[str]:
    return [EVENT_KEY + name for name in group.event_key]


def _seen(state: State, let_go: pl.DataFrame) -> pl.DataFrame | None:
    if not state.group.event_key:
        return None
    keys = let_go.filter(has_event_key(state.group)).select(_event_keys(state.group))
    return keys if state.seen is None else pl.concat([state.seen, keys])


def _changed(
    group: EventFeatures, before: pl.DataFrame, arrived: pl.DataFrame, events: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events that are new, and events that gave way to one known earlier."""
    if not group.event_key:
        return arrived, arrived.clear()
    keyed = has_event_key(group)
    columns = list(events.columns)
    new = events.filter(keyed).join(before, on=columns, how="anti", nulls_equal=True)
    replaced = before.filter(keyed).join(events, on=columns, how="anti", nulls_equal=True)
    return pl.concat([new, arrived.filter(~keyed)]), replaced


def _points(group: EventFeatures, events: pl.DataFrame) -> pl.DataFrame:
    """The moments at which these events change a value: join keys, timestamp."""
    if isinstance(group, WindowedFeatures):
        return change_points(group, events.lazy()).collect()
    return events.select(*group.join_keys, EVENT_TIMESTAMP).unique()


def _moments(
    group: EventFeatures, changed: pl.DataFrame, events: pl.DataFrame, since: datetime | None, until: datetime
) -> pl.DataFrame:
    """The moments up to `until` whose values are new or may differ from those given out: join keys, timestamp."""
    moment, keys = pl.col(EVENT_TIMESTAMP), list(group.join_keys)
    come = _points(group, events).filter(moment <= until)
    if since is None:
        return come
    # A late event changes its entity's values from its own moment on, as far as a window reaches.
    late = changed.filter(moment <= since).group_by(keys).agg(moment.min().alias("__from"))
    redone = come.join(late, on=keys, how="inner").filter(moment >= pl.col("__from")).drop("__from")
    return pl.concat([come.filter(moment > since), redone]).unique()


def _gone(group: EventFeatures, replaced: pl.DataFrame, events: pl.DataFrame, since: datetime | None) -> pl.DataFrame:
    """The moments given out at which only replaced events changed a value: join keys, timestamp."""
    points = _points(group, replaced)
    if since is None:
        return points.clear()
    left = points.join(_points(group, events), on=points.columns, how="anti")
    return left.filter(pl.col(EVENT_TIMESTAMP) <= since)


def _values_at(group: EventFeatures, keys: list[str], events: pl.DataFrame, moments: pl.DataFrame) -> pl.DataFrame:
    if isinstance(group, WindowedFeatures):
        concerned = events.lazy().join(moments.lazy().select(keys).unique(), on=keys, how="semi")
        values = window_values(group, concerned, moments.lazy())
    else:
        there = events.lazy().join(moments.lazy(), on=[*keys, EVENT_TIMESTAMP], how="semi")
        values = newest_of_ties(group, there)
    return in_shape(group, values).collect()
