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
_USABLE_FROM, _ASKED_AT = "__usable_from", "__asked_at"


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
    values = [usable(view) for view in views]
    if entities[timestamp].is_sorted():
        return entities.hstack(joined_columns(entities, timestamp, views, values))
    order = by_time(entities, timestamp)
    place = order.arg_sort()
    return entities.hstack(
        [column.gather(place) for column in joined_columns(entities[order], timestamp, views, values)]
    )


def by_time(entities: pl.DataFrame, timestamp: str) -> pl.Series:
    """The places of the rows in the order of their moments; of equal ones, in the order of the frame."""
    return entities.select(pl.arg_sort_by(pl.col(timestamp), maintain_order=True)).to_series()


def joined_columns(
    rows: pl.DataFrame, timestamp: str, views: Sequence[View], values: Sequence[pl.LazyFrame]
) -> list[pl.Series]:
    """Every view's features and timestamps for `rows`, which are sorted by `timestamp`.

    `values` are what `usable` gives of each view. The views are joined side by side, on all processors.
    """
    plans = [_joined(rows, timestamp, view, known) for view, known in zip(views, values, strict=True)]
    return [column for frame in pl.collect_all(plans) for column in frame]


def _joined(rows: pl.DataFrame, timestamp: str, view: View, values: pl.LazyFrame) -> pl.LazyFrame:
    # Under a name of its own, since an entity frame may have any.
    asked = rows.lazy().select(pl.col(timestamp).alias(_ASKED_AT), *view.keys)
    joined = asked.join_asof(
        values,
        left_on=_ASKED_AT,
        right_on=_USABLE_FROM,
        by=list(view.keys) or None,
        strategy="backward",
        check_sortedness=False,
        coalesce=False,
    )
    columns = [*view.features, view.timestamp_column]
    if not view.ttl:
        return joined.select(columns)
    alive = pl.col(view.timestamp_column) >= pl.col(_ASKED_AT) - view.ttl
    return joined.select(pl.when(alive).then(pl.col(name)).alias(name) for name in columns)


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
