"""The point-in-time join: for every entity row, the newest value of each view that was known at the row's timestamp.

A left join: every entity row comes back once, in order, duplicates included. A value older than its ttl is null. With a
created timestamp, a value counts from its creation on; the newest event timestamp wins, then the newest creation, then
the later row of the table. How a large join is cut into slices: see slices.py.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import polars as pl

from feature_repo.as_of import NOTHING, Asked, Places, columns_at
from feature_repo.timestamps import UTC_MICROSECONDS

TIMESTAMP_SUFFIX = "__event_timestamp"
"""A view's column that says from when its values are is called after the view, with this suffix."""
ROW = "__mlway_row"
_USABLE_FROM = "__mlway_usable_from"
_MANY_ROWS = 6_000_000
Taken = TypeVar("Taken")


@dataclass(frozen=True)
class View:
    """One table of values to join.

    `values` holds the keys under the entity frame's names, the features under their final names, and UTC timestamps in
    `timestamp_column` and, if there is one, `created_column`, in which no null is left. Rows with a null key or
    timestamp count for nothing.
    """

    values: pl.LazyFrame
    keys: Sequence[str]
    features: Sequence[str]
    timestamp_column: str
    created_column: str | None
    ttl: timedelta

    @property
    def moments(self) -> list[str]:
        """The columns that order its values."""
        return [self.timestamp_column, *([self.created_column] if self.created_column else [])]


def point_in_time_join(entities: pl.DataFrame, timestamp: str, views: Sequence[View]) -> pl.DataFrame:
    """`entities` with the features of every view, and the timestamp of the value under `view.timestamp_column`.

    The moment of an entity row is its column `timestamp`, UTC microseconds. A ttl of zero never expires.
    """
    return joined_with(entities, timestamp, views, [usable(view) for view in views])


def joined_with(
    entities: pl.DataFrame, timestamp: str, views: Sequence[View], values: Sequence[pl.LazyFrame]
) -> pl.DataFrame:
    """The same with the values that `usable` gives of the views."""
    # A view's values are let go as soon as its columns are there.
    return with_columns_of(entities, search(entities, timestamp, views, values, columns_of))


def by_time(entities: pl.DataFrame, timestamp: str) -> pl.Series:
    """The places of the rows in the order of their moments; of equal ones, in the order of the frame."""
    return entities.select(pl.arg_sort_by(pl.col(timestamp), maintain_order=True)).to_series()


@dataclass(frozen=True)
class Found:
    """A view's features and timestamps, and for each entity row the place among them of what it gets, or NOTHING."""

    values: pl.DataFrame
    places: Places


def search(
    entities: pl.DataFrame,
    timestamp: str,
    views: Sequence[View],
    values: Sequence[pl.LazyFrame],
    take: Callable[[Found], Taken],
) -> list[Taken]:
    """What `take` makes of what each view has for the entity rows. `values` are what `usable` gives of the views."""
    moments = entities[timestamp]
    order = None if moments.is_sorted() else by_time(entities, timestamp).to_numpy()
    asked: dict[tuple[str, ...], Asked] = {}

    def ask(keys: tuple[str, ...]) -> Asked:
        return Asked(moments.cast(pl.Int64).to_numpy(), order, entities.select(keys))

    def find(view: View, plan: pl.LazyFrame) -> Taken:
        known = plan.collect()
        places = _alive(asked[tuple(view.keys)], view, known)
        # What only the search needs is let go before anything else is done.
        known = known.select(*view.features, view.timestamp_column)
        return take(Found(known, places))

    # Side by side, unless what the search needs on the way is large itself.
    with ThreadPoolExecutor(1 if len(entities) > _MANY_ROWS else 2) as pool:
        by_keys = list(dict.fromkeys(tuple(view.keys) for view in views))
        asked.update(zip(by_keys, pool.map(ask, by_keys), strict=True))
        return list(pool.map(find, views, values))


def columns_of(found: Found) -> list[pl.Series]:
    """A view's features and timestamps for the entity rows."""
    return columns_at(found.values, found.places)


def with_columns_of(entities: pl.DataFrame, views: Iterable[Sequence[pl.Series]]) -> pl.DataFrame:
    """The entity rows with each view's columns."""
    return entities.hstack([column for columns in views for column in columns])


def _alive(asked: Asked, view: View, values: pl.DataFrame) -> Places:
    places = asked.newest(values.select(view.keys), values[_USABLE_FROM].cast(pl.Int64).to_numpy())
    if view.ttl and len(values):
        moments = values[view.timestamp_column].cast(pl.Int64).to_numpy()
        places[moments[places] < asked.moments - view.ttl // timedelta(microseconds=1)] = NOTHING
    return places


def usable(view: View, carried: pl.DataFrame | None = None) -> pl.LazyFrame:
    """The view's values in the order in which they replace each other, with the moment from which each may be used.

    `carried` holds values that were usable before those of the view: one for each entity.
    """
    values = view.values.drop_nulls([*view.keys, view.timestamp_column])
    if view.created_column is None:
        values = values.map_batches(partial(_sorted, by=view.timestamp_column))
        values = values.with_columns(pl.col(view.timestamp_column).alias(_USABLE_FROM))
        return values if carried is None else pl.concat([carried.lazy(), values])
    values = values.with_columns(pl.max_horizontal(view.moments).alias(_USABLE_FROM))
    values = values.sort(_USABLE_FROM, *view.moments, maintain_order=True)
    return _not_outdated(view, values if carried is None else pl.concat([carried.lazy(), values]))


def _sorted(values: pl.DataFrame, by: str) -> pl.DataFrame:
    """By time, with less work where they are so already, as files mostly are."""
    return values if values[by].is_sorted() else values.sort(by, maintain_order=True)


def _not_outdated(view: View, values: pl.LazyFrame) -> pl.LazyFrame:
    """Without the values that were written late, when a newer one was known already."""
    newest = pl.col(view.timestamp_column).cum_max()
    return values.filter(pl.col(view.timestamp_column) >= (newest.over(list(view.keys)) if view.keys else newest))


def resorted(view: View, values: pl.LazyFrame) -> pl.LazyFrame:
    """Values of which the carried ones need not be older than the others, in the order that `usable` gives."""
    values = values.sort(_USABLE_FROM, *view.moments, maintain_order=True)
    return values if view.created_column is None else _not_outdated(view, values)


def newest_usable(view: View, values: pl.DataFrame, alive_at: datetime) -> pl.DataFrame:
    """Of what `usable` gives, each entity's last value, unless it is past its ttl."""
    newest = values.unique(list(view.keys), keep="last", maintain_order=True) if view.keys else values.tail(1)
    return newest.filter(_is_alive(view, alive_at))


def restricted(view: View, after: datetime | None, until: datetime) -> View:
    """The view's values that become usable in (after, until]."""
    conditions = [pl.col(column) <= pl.lit(until, UTC_MICROSECONDS) for column in view.moments]
    if after is not None:
        later = [pl.col(column) > pl.lit(after, UTC_MICROSECONDS) for column in view.moments]
        conditions.append(pl.any_horizontal(later) if len(later) > 1 else later[0])
    return with_values(view, view.values.filter(*conditions))


def alive_since(view: View, moment: datetime) -> View:
    """The view without the values that are past their ttl at `moment`, and so at every later one."""
    return with_values(view, view.values.filter(_is_alive(view, moment))) if view.ttl else view


def _is_alive(view: View, moment: datetime) -> pl.Expr:
    if not view.ttl:
        return pl.lit(value=True)
    return pl.col(view.timestamp_column) >= pl.lit(moment - view.ttl, UTC_MICROSECONDS)


def with_values(view: View, values: pl.LazyFrame) -> View:
    """The view over other values of the same shape."""
    return View(values, view.keys, view.features, view.timestamp_column, view.created_column, view.ttl)
