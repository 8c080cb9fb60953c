"""How good scores have been for parts of the rows, beside what they were for the same parts, and which is to blame.

What a metric's error is: estimates.py. The gate's slices, of one candidate: slices.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from configs.products import ModelProduct
from mlway_assets.compute.estimates import DAY, Estimate, Estimates, estimates_by_value
from mlway_assets.compute.population import LABEL
from mlway_assets.compute.quality import DayQuality, quality_by_day

_STANDS_OUT = 3.0
"""Standard errors by which a slice must be worse than all rows are to be called the cause."""


@dataclass(frozen=True)
class SliceQuality:
    """The rows with one value of one field: their metrics now, and what the watched one was."""

    column: str
    value: str
    estimates: Estimates
    watched: Estimate
    expected: Estimate
    worsening: float
    """As a share of what it was; below zero it is better."""
    p_value: float
    """How likely days as bad as these are for a slice that is worse by no more than may be."""
    excess: float
    """By how many standard errors it is worse than it was, beyond what all rows are."""
    is_past: bool

    @property
    def name(self) -> str:
        """As in `carrier = AA`."""
        return f"{self.column} = {self.value}"

    @property
    def stands_out(self) -> bool:
        """Whether it has become worse than all rows have, surely."""
        return self.excess > _STANDS_OUT


@dataclass(frozen=True)
class SliceExpectation:
    """The champion's quality on the days that judged it, of all rows and by slice."""

    product: ModelProduct
    whole: Estimates
    slices: Mapping[str, Mapping[str, Estimates]]
    """By column and value."""

    def held_against(self, rows: pl.DataFrame) -> list[SliceQuality]:
        """The slices of the newest days' `rows` that have enough of them, those that are most surely worse first."""
        product, metric = self.product, self.product.watched_metric
        labelled = rows.drop_nulls(LABEL)
        if not self.slices or metric not in self.whole or not len(labelled):
            return []
        of_all = estimates_by_value(product, labelled)[""]
        usual = _worse(product, of_all[metric], self.whole[metric]) if metric in of_all else 0.0
        known = [
            (column, value, estimates, before[value][metric])
            for column, before in self.slices.items()
            for value, estimates in self._large(labelled, column).items()
            if metric in estimates and metric in before.get(value, {})
        ]
        p_value = product.monitoring.quality.p_value / max(len(known), 1)
        days = labelled[DAY].n_unique()
        found = [self._judged(*each, usual, days, p_value) for each in known]
        return sorted(found, key=lambda each: (-each.excess, each.name))

    def _large(self, labelled: pl.DataFrame, column: str) -> dict[str, Estimates]:
        enough = pl.len().over(column) >= self.product.monitoring.quality.slices.minimum_rows
        return estimates_by_value(self.product, labelled.filter(enough), column)

    def _judged(
        self, column: str, value: str, now: Estimates, before: Estimate, usual: float, days: int, least_p_value: float
    ) -> SliceQuality:
        allowed, watched = self.product.monitoring.quality.slices.maximum_worsening, now[self.product.watched_metric]
        worse, scale = _worse(self.product, watched, before), abs(before.value)
        p_value = _p_value(worse - allowed * scale, watched, before, days)
        return SliceQuality(
            column,
            value,
            now,
            watched,
            before,
            worsening=worse / scale if scale else float(np.sign(worse)) * np.inf if worse else 0.0,
            p_value=p_value,
            excess=_in_errors(worse - usual, watched, before),
            is_past=p_value < least_p_value,
        )


@dataclass(frozen=True)
class Promise:
    """What a champion has shown on the days that judged it: each day's quality, and that of the slices."""

    days: Sequence[DayQuality]
    slices: SliceExpectation


def promise_of(product: ModelProduct, judged: pl.DataFrame) -> Promise:
    """What the scored rows of those days promise. Raises RelevanceError."""
    return Promise(quality_by_day(product, judged), slice_expectation(product, judged))


def slice_expectation(product: ModelProduct, judged: pl.DataFrame) -> SliceExpectation:
    """What the slices of the days that judged the champion have shown. Raises RelevanceError."""
    columns = [column for column in product.watched_slices if column in judged.columns]
    slices = {column: estimates_by_value(product, judged, column) for column in columns}
    return SliceExpectation(product, estimates_by_value(product, judged).get("", {}), slices)


def suspects(slices: Sequence[SliceQuality], most: int = 3) -> list[SliceQuality]:
    """The slices that a worsening is to be looked for in: past their limits, or worse than all rows."""
    return [each for each in slices if each.is_past or each.stands_out][:most]


def _worse(product: ModelProduct, now: Estimate, before: Estimate) -> float:
    difference = now.value - before.value
    return difference if product.is_watched_metric_lower_better else -difference


def _in_errors(difference: float, now: Estimate, before: Estimate) -> float:
    """Of an error that is unknown, or none, nothing is sure."""
    if not now.error or before.error is None:
        return 0.0
    return float(difference / np.hypot(now.error, before.error))


def _p_value(difference: float, now: Estimate, before: Estimate, days: int) -> float:
    """Of Student's test with the newest days as the sample."""
    from scipy import stats

    return float(stats.t.sf(_in_errors(difference, now, before), days - 1)) if now.error else 1.0
