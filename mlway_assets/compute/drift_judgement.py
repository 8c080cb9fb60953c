"""Judge how far days lie from what a model has learned from: what is usual, what is past a limit, and by how much.

How one column's drift is measured: drift.py.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import isnan
from typing import Generic, TypeVar

import polars as pl

from configs.monitoring import Drift, InputDrift
from mlway_assets.compute.drift import ColumnDrift, Reference

DAY = "event_day"
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Finding:
    """How far a column has moved over a window, how far it may, and which of its limits it is past."""

    drift: ColumnDrift
    psi_limit: float
    past: tuple[str, ...]

    @property
    def is_drifted(self) -> bool:
        """Whether it is past a limit."""
        return bool(self.past)

    @property
    def excess(self) -> float:
        """Its population stability index as a multiple of the limit; 0 where there is none."""
        return 0.0 if isnan(self.drift.psi) else self.drift.psi / self.psi_limit


@dataclass(frozen=True)
class DayDrift:
    """The columns of the days up to `day` beside a champion's, those past the most limits first."""

    day: date
    days: int
    """That have rows."""
    least_days: int
    rows: int
    minimum_rows: int
    findings: tuple[Finding, ...]
    most_drifted: int
    """So many columns may have drifted."""

    @property
    def is_told(self) -> bool:
        """Whether there is enough to say anything of it."""
        return self.rows >= self.minimum_rows and self.days >= self.least_days

    @property
    def drifted(self) -> list[Finding]:
        """The columns past a limit."""
        return [found for found in self.findings if found.is_drifted]

    @property
    def is_within_limits(self) -> bool:
        """Whether no more columns have drifted than may. Where there is too little, it is: nothing is known."""
        return not self.is_told or len(self.drifted) <= self.most_drifted


@dataclass(frozen=True)
class _Usual:
    """What the windows of the expected rows themselves are like: the greatest index of each column, the fewest days."""

    psi: Mapping[str, float]
    least_days: int


def with_those_before(days: Sequence[date], window_days: int) -> list[date]:
    """These days, and those that belong to their windows."""
    return sorted({day - timedelta(days=before) for day in days for before in range(window_days)})


def window(rows: pl.DataFrame, day: date, window_days: int) -> pl.DataFrame:
    """The rows of the days up to `day`."""
    return rows.filter(pl.col(DAY).is_between(day - timedelta(days=window_days - 1), day))


class Expectation:
    """What a model has learned from, for days to be held against."""

    def __init__(self, expected: pl.DataFrame, limits: Drift, unsettled: timedelta) -> None:
        """`expected` has `event_day` and the columns to watch; its first days, over `unsettled`, set no limits."""
        self._limits = limits
        self._reference = Reference(expected.drop(DAY))
        self._usual = _usual(self._reference, expected, limits, unsettled)

    @property
    def columns(self) -> list[str]:
        """The columns that are watched."""
        return self._reference.columns

    def held_against(self, rows: pl.DataFrame, days: Sequence[date]) -> list[DayDrift]:
        """The drift of each day's window of `rows`, which have `event_day` and at least the columns watched."""
        limits, usual = self._limits, self._usual
        share = limits.maximum_drifted_share if isinstance(limits, InputDrift) else 0.0
        return [
            DayDrift(
                day=day,
                days=seen[DAY].n_unique(),
                least_days=usual.least_days,
                rows=len(seen),
                minimum_rows=limits.minimum_rows,
                findings=_furthest_first(_judged(drift, limits, usual.psi) for drift in self._reference.drift(seen)),
                most_drifted=int(share * len(self._reference.columns) + _ROUNDING),
            )
            for day, seen in _windows(rows, days, limits.window_days)
        ]


Kept = TypeVar("Kept")


class Expectations(Generic[Kept]):
    """The newest expectations by what they were made from: making one takes longer than judging a day."""

    def __init__(self, most: int = 32) -> None:
        """Keeps so many of them."""
        self._most = most
        self._kept: dict[Hashable, Kept] = {}

    def of(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The expectation of that key, made if need be."""
        found = self._kept.pop(key, None) or make()
        self._kept[key] = found
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        return found


def _windows(rows: pl.DataFrame, days: Sequence[date], window_days: int) -> list[tuple[date, pl.DataFrame]]:
    """For each day the rows of the days up to it."""
    return [(day, window(rows, day, window_days)) for day in days]


def _usual(reference: Reference, expected: pl.DataFrame, limits: Drift, unsettled: timedelta) -> _Usual:
    """Of the whole windows of the expected rows, one after the other, as many as have enough rows."""
    first, last = expected[DAY].min(), expected[DAY].max()
    if not isinstance(first, date) or not isinstance(last, date):
        return _Usual({}, limits.window_days)
    if first + unsettled + timedelta(days=limits.window_days) <= last:
        first += unsettled
    whole = ((last - first).days + 1) // limits.window_days
    ends = [first + timedelta(days=limits.window_days * (number + 1) - 1) for number in range(whole)]
    windows = [each for _, each in _windows(expected, ends, limits.window_days) if len(each) >= limits.minimum_rows]
    greatest: dict[str, float] = {}
    for each in windows:
        for drift in reference.drift(each):
            greatest[drift.name] = max(greatest.get(drift.name, 0.0), drift.psi)
    return _Usual(greatest, min((each[DAY].n_unique() for each in windows), default=limits.window_days))


def _judged(drift: ColumnDrift, limits: Drift, usual: Mapping[str, float]) -> Finding:
    psi_limit = max(limits.minimum_psi, usual.get(drift.name, 0.0))
    is_past = {
        "psi": drift.psi > psi_limit,
        "missing": abs(drift.missing_difference) > limits.maximum_missing_share_difference,
        "unseen": isinstance(limits, InputDrift) and drift.unseen_share > limits.maximum_unseen_share,
    }
    return Finding(drift, psi_limit, tuple(name for name, past in is_past.items() if past and drift.rows))


def _furthest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda found: (-len(found.past), -found.excess, found.drift.name)))
