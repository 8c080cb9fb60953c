"""Whether a column's unit has changed: the size of a day's values beside that of the days before.

A rule for one row cannot tell minutes from seconds where both are possible; a whole day of them can.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

DAY = "event_day"
DAYS_BEFORE = 28
_LEAST_DAYS = 14
_LEAST_VALUES = 20


@dataclass(frozen=True)
class ChangedScale:
    """A day on which a column's values are of another size: their median without sign, and those of days before."""

    day: date
    column: str
    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return (
            f"{self.column} of {self.day}: half of the values are beyond {self.median:,.4g}, where that was "
            f"{self.least:,.4g} to {self.greatest:,.4g} on the days before"
        )


def changed_scales(rows: pl.DataFrame, days: Sequence[date], maximum_change: float) -> list[ChangedScale]:
    """Days and number columns whose median size is so many times greater, or smaller, than on each day before.

    `rows` hold these days and the 28 before each; what is missing or zero does not count. Nothing is said of a column
    with fewer than 20 values on a day, or with but one, as the month is, or with fewer than 14 such days before it.
    """
    names = [name for name, kind in rows.schema.items() if kind.is_numeric()]
    sizes = [pl.col(name).cast(pl.Float64).abs().filter(pl.col(name) != 0) for name in names]
    is_told = [(size.count() >= _LEAST_VALUES) & (size.n_unique() > 1) for size in sizes]
    told = [pl.when(enough).then(size.median()) for size, enough in zip(sizes, is_told, strict=True)]
    medians = rows.group_by(DAY).agg(median.alias(name) for name, median in zip(names, told, strict=True))
    found = ((name, dict(medians.select(DAY, name).drop_nulls().iter_rows())) for name in names)
    return sorted(
        (changed for name, by_day in found for changed in _changed(name, by_day, days, maximum_change)),
        key=lambda changed: (changed.day, changed.column),
    )


def _changed(
    column: str, medians: Mapping[date, float], days: Sequence[date], maximum_change: float
) -> Iterator[ChangedScale]:
    for day in medians.keys() & set(days):
        before = [medians[each] for each in days_before(day) if each in medians]
        if len(before) < _LEAST_DAYS:
            continue
        median, least, greatest = medians[day], min(before), max(before)
        if median > greatest * maximum_change or median < least / maximum_change:
            yield ChangedScale(day, column, median, least, greatest)


def days_before(day: date) -> list[date]:
    """The days that a day is held against."""
    return [day - timedelta(days=number) for number in range(1, DAYS_BEFORE + 1)]
