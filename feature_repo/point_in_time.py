"""The point-in-time join: for every entity row, the newest value of each view that was known at the row's timestamp.

A left join: every entity row comes back once, in order, duplicates included. A value older than its ttl is null. With a
created timestamp, a value counts from its creation on; the newest event timestamp wins, then the newest creation, then
the later row of the table. How a large join is cut into slices: see slices.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from feature_repo.timestamps import UTC_MICROSECONDS

TIMESTAMP_SUFFIX = "__event_timestamp"
"""A view's column that says from when its values are is called after the view, with this suffix."""
ROW = "__row"
_USABLE_FROM = "__usable_from"


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


def point_in_time_join(entities: pl.LazyFrame, timestamp: str, views: Sequence[View]) -> pl.LazyFrame:
    """`entities` with the features of every view, and the timestamp of the value under `view.timestamp_column`.

    The moment of an entity row is its column `timestamp`, UTC microseconds. A ttl of zero never expires.
    """
    joined = entities.with_row_index(ROW).sort(timestamp)
    for view in views:
        joined = join_sorted(joined, timestamp, view, usable(view))
    return joined.sort(ROW).drop(ROW)


def join_sorted(left: pl.LazyFrame, timestamp: str, view: View, values: pl.LazyFrame) -> pl.LazyFrame:
    """One view's part of the join. `left` is sorted by `timestamp`; `values` are what `usable` gives."""
    joined = left.join_asof(
        values,
        left_on=timestamp,
        right_on=_USABLE_FROM,
        by=list(view.keys) or None,
        strategy="backward",
        check_sortedness=False,
        coalesce=False,
    ).drop(_USABLE_FROM, *([view.created_column] if view.created_column else []))
    if not view.ttl:
        return joined
    alive = pl.col(view.timestamp_column) >= pl.col(timestamp) - view.ttl
    return joined.with_columns(
        pl.when(alive).then(pl.col(name)).alias(name) for name in (*view.features, view.timestamp_column)
    )


def usable(view: View, carried: pl.DataFrame | None = None) -> pl.LazyFrame:
    """The view's values in the order in which they replace each other, with the moment from which each may be used.

    `carried` holds values that were usable before those of the view: one for each entity.
    """
    values = view.values.drop_nulls([*view.keys, view.timestamp_column])
    if view.created_column is None:
        values = values.sort(view.timestamp_column, maintain_order=True)
        values = values.with_columns(pl.col(view.timestamp_column).alias(_USABLE_FROM))
        return values if carried is None else pl.concat([carried.lazy(), values])
    values = values.with_columns(pl.max_horizontal(view.moments).alias(_USABLE_FROM))
    values = values.sort(_USABLE_FROM, *view.moments, maintain_order=True)
    return _not_outdated(view, values if carried is None else pl.concat([carried.lazy(), values]))


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
