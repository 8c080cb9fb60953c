"""The one implementation of every feature that is read from a table.

`feature_values` turns a curated table into a step function for each entity: one row at every moment at which a
value changes. A point-in-time join on it gives the value at any moment T exactly, for training and for serving.
The same from micro-batches of new rows: see incremental.py. What is inside a window: see windows.py.

A row enters a window when it becomes known and leaves it w later, so both moments are change points.
"""

from datetime import UTC, datetime, timedelta

import polars as pl

from configs.features import EventFeatures, StaticFeatures, TableFeatures, WindowedFeatures
from feature_repo.column_types import POLARS_TYPES
from feature_repo.expressions import parse
from feature_repo.windows import EVENT_TIMESTAMP, clean_float, input_columns, window_values

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
"""Event timestamp of static attributes: known at every moment that data is about."""
EVENT_KEY = "__event_key_"


def feature_values(group: TableFeatures, table: pl.LazyFrame) -> pl.LazyFrame:
    """The group's values over all history.

    Columns: the join keys, `event_timestamp` (UTC microseconds), one for each feature; unique by keys and timestamp,
    sorted by timestamp. Rows of `table` with a null join key or a null `known_at` are left out.
    """
    if isinstance(group, StaticFeatures):
        rows = _kept(group, table).select(
            *group.join_keys, pl.lit(ALWAYS, pl.Datetime("us", "UTC")).alias(EVENT_TIMESTAMP), **_columns(group)
        )
        return in_shape(group, newest_of_ties(group, rows))
    events = first_known(group, events_of(group, table))
    if isinstance(group, WindowedFeatures):
        return in_shape(group, window_values(group, events, change_points(group, events)))
    return in_shape(group, newest_of_ties(group, events))


def values_from(group: EventFeatures, table: pl.LazyFrame, first: datetime) -> pl.LazyFrame:
    """The rows of `feature_values` at `first` and later, from the events alone that they need.

    Raises ValueError for a group with an event key, of which any older event may matter.
    """
    if group.event_key:
        raise ValueError(f"{group.name} has an event key: its values need all history")
    longest = max(group.windows) if isinstance(group, WindowedFeatures) else timedelta(0)
    recent = table.filter(pl.col(group.known_at) >= first - longest)
    return feature_values(group, recent).filter(pl.col(EVENT_TIMESTAMP) >= first)


def events_of(group: EventFeatures, table: pl.LazyFrame) -> pl.LazyFrame:
    """The table's rows as events: the join keys, `event_timestamp`, what the features need, the event key."""
    rows = _kept(group, table).drop_nulls(group.known_at)
    needed = input_columns(group, rows) if isinstance(group, WindowedFeatures) else _columns(group)
    return rows.select(
        *group.join_keys,
        pl.col(group.known_at).alias(EVENT_TIMESTAMP),
        **needed,
        **{EVENT_KEY + name: pl.col(name) for name in group.event_key},
    )


def first_known(group: EventFeatures, events: pl.LazyFrame) -> pl.LazyFrame:
    """Of the events with one event key, the first known; of equal ones always the same.

    A key with a null in it tells nothing: such an event is never another one told again.
    """
    if not group.event_key:
        return events
    key = [EVENT_KEY + name for name in group.event_key]
    others = [column for column in events.collect_schema() if column not in (EVENT_TIMESTAMP, *key)]
    ordered = events.filter(has_event_key(group)).sort(EVENT_TIMESTAMP, *others, nulls_last=True)
    first = ordered.unique(key, keep="first", maintain_order=True)
    return pl.concat([first, events.filter(~has_event_key(group))])


def has_event_key(group: EventFeatures) -> pl.Expr:
    """Whether an event of `events_of` can be told from another by its event key."""
    return pl.all_horizontal(pl.col(EVENT_KEY + name).is_not_null() for name in group.event_key)


def change_points(group: WindowedFeatures, events: pl.LazyFrame) -> pl.LazyFrame:
    """Each moment at which an event enters or leaves a window of its entity: the join keys, `event_timestamp`."""
    moments = events.select(*group.join_keys, EVENT_TIMESTAMP)
    leaving = [moments.with_columns(pl.col(EVENT_TIMESTAMP) + window) for window in group.windows]
    return pl.concat([moments, *leaving]).unique()


def newest_of_ties(group: TableFeatures, values: pl.LazyFrame) -> pl.LazyFrame:
    """One row for each entity and timestamp: of several always the same."""
    keys = list(group.join_keys)
    return values.sort(EVENT_TIMESTAMP, *keys, *group.types).unique(
        [*keys, EVENT_TIMESTAMP], keep="last", maintain_order=True
    )


def in_shape(group: TableFeatures, values: pl.LazyFrame) -> pl.LazyFrame:
    """The columns of a group's values in order and type, sorted by timestamp and keys."""
    typed = [pl.col(name).cast(POLARS_TYPES[kind]) for name, kind in group.types.items()]
    return values.select(*group.join_keys, EVENT_TIMESTAMP, *typed).sort(EVENT_TIMESTAMP, *group.join_keys)


def retention(group: EventFeatures) -> timedelta:
    """How long events are needed after they became known, when none arrives later than allowed."""
    longest = max(group.windows) if isinstance(group, WindowedFeatures) else timedelta(0)
    return group.allowed_lateness + longest


def _kept(group: TableFeatures, table: pl.LazyFrame) -> pl.LazyFrame:
    rows = table if group.where is None else table.filter(parse(group.where))
    return rows.drop_nulls(list(group.join_keys))


def _columns(group: TableFeatures) -> dict[str, pl.Expr]:
    if isinstance(group, WindowedFeatures):
        raise TypeError(f"{group.name} is windowed: its features are not columns of a row")
    columns = {}
    for name, feature in group.features.items():
        value = parse(feature.expression).cast(POLARS_TYPES[feature.type])
        columns[name] = clean_float(value) if feature.type == "float64" else value
    return columns
