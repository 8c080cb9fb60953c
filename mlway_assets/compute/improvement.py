"""By how much one model is better than another on the same rows, with an interval: whole days are drawn for both.

Rows of one day share its weather, and rows alone would make the interval several times too narrow. Efron & Tibshirani:
An Introduction to the Bootstrap (1993), chapter 8.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from configs.tasks import LOWER_IS_BETTER, Metric
from mlway_assets.compute.evaluation import query_ndcg
from mlway_assets.compute.measurement import Measured

Draws = NDArray[np.float64]
"""Draws by days: how often each day is in each of them."""
Values = NDArray[np.float64]
_LEAST_PROBABILITY = 1e-15
"""Nearer to 0 or 1 a score does not come for the logarithm: scikit-learn's limit for doubles, nearly."""


@dataclass(frozen=True)
class Better:
    """By how much the first is better than the second, in the metric's unit; below zero it is worse.

    `low` and `high` are the ends of the interval; the improvement lies above `low` with the stated confidence.
    """

    metric: str
    mean: float
    low: float
    high: float
    confidence: float
    days: int

    @property
    def interval_confidence(self) -> float:
        """That with which it lies between both ends."""
        return round(2 * self.confidence - 1, 9)


def improvement(
    metric: Metric,
    days: pl.Series,
    first: Measured,
    second: Measured,
    *,
    confidence: float,
    samples: int,
    seed: int,
    k: int | None = None,
) -> Better:
    """How much better `first` is than `second`, which are measured on the same rows; `days` are those of the rows.

    `k` is that of ndcg_at_k. Draws in which the metric has no value, for want of one class, do not count.
    """
    of_day, names = _numbered(days)
    draws = np.vstack([np.ones(names), _drawn(names, samples, seed)])
    sign = -1 if metric in LOWER_IS_BETTER else 1
    with np.errstate(divide="ignore", invalid="ignore"):
        ours, theirs = (_metric(metric, of_day, names, measured, k)(draws) for measured in (first, second))
        found = sign * (ours - theirs) + 0.0  # equal is 0, never -0
    told = found[1:][np.isfinite(found[1:])]
    if not len(told):
        return Better(metric, float(found[0]), float("nan"), float("nan"), confidence, names)
    low, high = np.quantile(told, [1 - confidence, confidence])
    return Better(metric, float(found[0]), float(low), float(high), confidence, names)


def metric_interval(
    metric: Metric,
    days: pl.Series,
    rows: Measured,
    *,
    confidence: float,
    samples: int,
    seed: int,
    k: int | None = None,
) -> tuple[float, float] | None:
    """Where the metric of one model lies with that confidence, days drawn as above; None where no draw has a value."""
    of_day, names = _numbered(days)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _metric(metric, of_day, names, rows, k)(_drawn(names, samples, seed))
    told = found[np.isfinite(found)]
    if not len(told):
        return None
    low, high = np.quantile(told, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _numbered(days: pl.Series) -> tuple[NDArray[np.int64], int]:
    """Each row's day as a number from 0, and how many days there are."""
    return days.rank("dense").cast(pl.Int64).to_numpy() - 1, days.n_unique()


def _drawn(days: int, samples: int, seed: int) -> Draws:
    """So many draws of as many days as there are."""
    return np.random.default_rng(seed).multinomial(days, np.full(days, 1 / days), size=samples).astype(np.float64)


def _metric(
    metric: Metric, of_day: NDArray[np.int64], days: int, rows: Measured, k: int | None
) -> Callable[[Draws], Values]:
    """The metric of each draw."""
    targets, score = rows.targets, rows.scores.score
    if metric == "roc_auc":
        return _roc_auc(of_day, days, targets, score)
    if metric == "average_precision":
        return _average_precision(of_day, targets, score)
    if metric == "ndcg_at_k":
        return _ndcg(of_day, days, rows, k or 1)
    if metric == "log_loss":
        inside = np.clip(score, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        return _mean(of_day, days, -np.where(targets > 0, np.log(inside), np.log1p(-inside)))
    if metric == "mae":
        return _mean(of_day, days, np.abs(score - targets))
    squared = _mean(of_day, days, (score - targets) ** 2)
    return lambda draws: np.sqrt(squared(draws))


def _mean(of_day: NDArray[np.int64], days: int, losses: Values) -> Callable[[Draws], Values]:
    sums, counts = np.bincount(of_day, losses, days), np.bincount(of_day, minlength=days)
    return lambda draws: (draws @ sums) / (draws @ counts)


def _ndcg(of_day: NDArray[np.int64], days: int, rows: Measured, k: int) -> Callable[[Draws], Values]:
    """The mean over queries. A query belongs to the day of its first row."""
    if rows.queries is None:
        raise ValueError("NDCG is that of queries")
    found = query_ndcg(rows.queries, rows.targets, rows.scores.score, k)
    first_days = pl.DataFrame({"query": rows.queries, "day": of_day}).group_by("query").agg(pl.col("day").min())
    by_query = found.join(first_days, on="query", validate="1:1")
    return _mean(by_query["day"].to_numpy(), days, by_query["ndcg"].to_numpy())


def _roc_auc(of_day: NDArray[np.int64], days: int, targets: Values, score: Values) -> Callable[[Draws], Values]:
    """Of a draw w: the sum over days d, e of w_d w_e * pairs(d, e), over as many as there are.

    `pairs(d, e)` are the positives of day d that score above negatives of day e, ties half: counted once for all draws.
    """
    order = np.argsort(score, kind="stable")
    day, positive = of_day[order], targets[order] > 0
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(order)]))
    negatives = np.zeros((len(starts), days))
    np.add.at(negatives, (group[~positive], day[~positive]), 1.0)
    below = np.cumsum(negatives, axis=0) - negatives / 2
    pairs = np.zeros((days, days))
    np.add.at(pairs, day[positive], below[group[positive]])
    ups, downs = (np.bincount(day[which], minlength=days) for which in (positive, ~positive))
    return lambda draws: np.einsum("ij,jk,ik->i", draws, pairs, draws) / ((draws @ ups) * (draws @ downs))


def _average_precision(of_day: NDArray[np.int64], targets: Values, score: Values) -> Callable[[Draws], Values]:
    """The sum of precision times what recall gains, from the highest score down, rows of one score at once."""
    order = np.argsort(-score, kind="stable")
    day, positive = of_day[order], targets[order] > 0
    ends = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])

    def of_draw(draw: Values) -> float:
        weights = draw[day]
        hits, all_rows = np.cumsum(weights * positive)[ends], np.cumsum(weights)[ends]
        gained = np.diff(hits, prepend=0.0)
        some = gained > 0
        return float(np.sum(gained[some] * hits[some] / all_rows[some]) / hits[-1]) if hits[-1] else float("nan")

    return lambda draws: np.array([of_draw(draw) for draw in draws])
