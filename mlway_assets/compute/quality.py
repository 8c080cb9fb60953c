"""How good scores have been, day by day, now that labels are known, and whether that is worse than was promised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from configs.monitoring import Quality
from configs.products import ModelProduct
from mlway_assets.compute.change import SuddenChange, sudden_change
from mlway_assets.compute.estimates import DAY, Estimate, Estimates, estimates_by_day
from mlway_assets.compute.measurement import scored_rows, told_metrics
from mlway_assets.compute.population import LABEL

_CONFIDENCE = 0.95
_NO_SPREAD = 1e-9


@dataclass(frozen=True)
class DayQuality:
    """One day's metrics over the rows whose labels are known; none where those rows cannot tell good from bad."""

    day: date
    rows: int
    labelled: int
    estimates: Estimates

    @property
    def metrics(self) -> Mapping[str, float]:
        """The values alone."""
        return {name: estimate.value for name, estimate in self.estimates.items()}


@dataclass(frozen=True)
class Comparison:
    """The mean of a metric over some days, its 95% interval, and how much worse that is than over the expected days.

    The days are the sample, for rows of one day share its weather: Student's interval of their mean, and Welch's test
    (1947). Days that follow each other are alike too, so that both are somewhat too sure.
    """

    mean: float
    interval: tuple[float, float]
    expected_mean: float
    worsening: float
    """As a share of the expected mean; below zero it is better."""
    p_value: float
    """How likely days as bad as these are for a model that is worse by no more than may be."""
    days: int


@dataclass(frozen=True)
class Verdict:
    """What the newest days say: beside what was promised, and beside the days before them."""

    comparison: Comparison | None
    change: SuddenChange | None
    p_value: float
    """The least that a comparison's may be."""

    @property
    def is_worse(self) -> bool:
        """Whether so bad days are too unlikely for a champion that is worse by no more than may be."""
        return self.comparison is not None and self.comparison.p_value < self.p_value

    @property
    def is_within_limits(self) -> bool:
        """Whether they are neither worse than promised nor suddenly worse than those before."""
        return not self.is_worse and not (self.change is not None and self.change.is_alarm)


def judge_days(
    promised: Sequence[float],
    before: Sequence[float],
    newest: Sequence[float],
    limits: Quality,
    *,
    is_lower_better: bool,
    seed: int,
) -> Verdict:
    """Judge the `newest` days by `promised` ones and by those `before` them."""
    change = None
    if limits.change is not None:
        usual = [*promised, *before][-limits.change.reference_days :]
        change = sudden_change(usual, newest, limits.change, is_lower_better=is_lower_better, seed=seed)
    comparison = compare_days(promised, newest, is_lower_better=is_lower_better, allowed=limits.maximum_worsening)
    return Verdict(comparison, change, limits.p_value)


def quality_by_day(product: ModelProduct, rows: pl.DataFrame) -> list[DayQuality]:
    """The quality of each `event_day`, in order.

    `rows` have `label`, null where it is not known, `score`, with an interval `lower` and `upper`, and in a ranking
    `query_key`. Raises RelevanceError.
    """
    counted = rows.group_by(DAY).agg(pl.len(), pl.col(LABEL).count().alias("labelled")).sort(DAY)
    labelled = rows.drop_nulls(LABEL)
    estimates = estimates_by_day(product, labelled)
    watched = product.watched_metric
    found = []
    for day, count, known in counted.iter_rows():
        told = dict(estimates.get(day, {}))
        if product.task == "binary" and "roc_auc" not in told:
            told = {}
        if told and watched not in told:  # a metric that is no mean over rows
            metrics = told_metrics(product, scored_rows(product, labelled.filter(pl.col(DAY) == day)))
            told[watched] = Estimate(metrics[watched], None, known)
        found.append(DayQuality(day, count, known, told))
    return found


def compare_days(
    expected: Sequence[float], seen: Sequence[float], *, is_lower_better: bool, allowed: float
) -> Comparison | None:
    """What `seen` days show beside `expected` ones; None with fewer than two of either, of which nothing is known.

    `allowed` is by how much the mean may be worse, as a share of the expected mean.
    """
    if min(len(expected), len(seen)) < 2:
        return None
    # What is better is less from here on.
    sign = 1 if is_lower_better else -1
    now, before = sign * np.asarray(seen), sign * np.asarray(expected)
    scale = abs(float(before.mean()))
    worse = float(now.mean() - before.mean())
    mean, reach = float(np.mean(seen)), _reach(now)
    return Comparison(
        mean=mean,
        interval=(mean - reach, mean + reach),
        expected_mean=float(np.mean(expected)),
        worsening=worse / scale if scale else float(np.sign(worse)) * np.inf if worse else 0.0,
        p_value=_p_value(before + allowed * scale, now),
        days=len(seen),
    )


def _reach(values: NDArray[np.float64]) -> float:
    """Half the width of the interval of their mean."""
    from scipy import stats

    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1) * error)


def _p_value(allowed: NDArray[np.float64], seen: NDArray[np.float64]) -> float:
    """Of the mean of `seen` being greater only by chance."""
    from scipy import stats

    if max(np.ptp(seen), np.ptp(allowed)) <= _NO_SPREAD * max(np.abs(seen).max(), np.abs(allowed).max()):
        return 1.0 if seen.mean() <= allowed.mean() else 0.0  # no spread, no test
    return float(stats.ttest_ind(seen, allowed, equal_var=False, alternative="greater").pvalue)
