"""By how much one model beats another, held against drawing the rows of whole days one by one."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from configs.tasks import LOWER_IS_BETTER, Metric
from mlway_assets.compute.evaluation import ranking_metrics
from mlway_assets.compute.improvement import improvement
from mlway_assets.compute.measurement import Measured
from serving.scoring import Scores

ORACLES: dict[Metric, Any] = {
    "roc_auc": metrics.roc_auc_score,
    "average_precision": metrics.average_precision_score,
    "log_loss": lambda labels, scores: metrics.log_loss(labels, scores, labels=[0, 1]),
    "mae": metrics.mean_absolute_error,
    "rmse": metrics.root_mean_squared_error,
}


def drawn(days: int, samples: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).multinomial(days, np.full(days, 1 / days), size=samples)


@pytest.mark.parametrize("metric", ORACLES)
@given(seed=st.integers(0, 2**31), ties=st.booleans())
@settings(max_examples=15, deadline=None)
def test_the_interval_is_that_of_rows_drawn_by_whole_days(metric: Metric, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    day = rng.integers(0, 5, 120)
    targets = (rng.random(120) < 0.4).astype(float) if metric not in ("mae", "rmse") else rng.normal(size=120)
    both = [np.round(rng.uniform(0.05, 0.95, 120), 1 if ties else 12) for _ in range(2)]
    days = pl.Series(day)
    found = improvement(
        metric,
        days,
        *(Measured(targets, Scores(score)) for score in both),
        confidence=0.9,
        samples=60,
        seed=seed,
    )
    names = np.unique(day)
    sign = -1 if metric in LOWER_IS_BETTER else 1

    def difference(places: np.ndarray[Any, Any]) -> float:
        first, second = (ORACLES[metric](targets[places], score[places]) for score in both)
        return float(sign * (first - second))

    expected = []
    for counts in drawn(len(names), 60, seed):
        places = np.concatenate([np.flatnonzero(day == name).repeat(n) for name, n in zip(names, counts, strict=True)])
        if metric in ("mae", "rmse", "log_loss") or len(np.unique(targets[places])) == 2:
            expected.append(difference(places))
    assert found.mean == pytest.approx(difference(np.arange(120)), abs=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected, [0.1, 0.9])), abs=1e-9)
    assert found.days == len(names)


def test_orders_are_drawn_by_the_days_of_their_queries() -> None:
    rng = np.random.default_rng(7)
    queries, grades = pl.Series(np.repeat(np.arange(40), 4).astype(str)), rng.integers(0, 3, 160).astype(float)
    days = pl.Series(np.repeat(np.arange(8), 20))
    good, bad = grades + rng.normal(size=160), rng.normal(size=160)
    measured = [Measured(grades, Scores(score), queries) for score in (good, bad)]
    found = improvement("ndcg_at_k", days, *measured, confidence=0.95, samples=500, seed=1, k=3)
    expected = [ranking_metrics(queries, grades, score, 3)["ndcg_at_3"] for score in (good, bad)]
    assert found.mean == pytest.approx(expected[0] - expected[1])
    assert 0 < found.low < found.mean < found.high


def test_the_same_scores_are_no_improvement_and_one_class_tells_nothing() -> None:
    score, days = np.linspace(0.1, 0.9, 50), pl.Series(np.arange(50) % 5)
    labels = (np.arange(50) % 3 == 0).astype(float)
    same = improvement("roc_auc", days, *[Measured(labels, Scores(score))] * 2, confidence=0.95, samples=100, seed=1)
    assert (same.low, same.mean, same.high) == (0, 0, 0)
    nothing = [Measured(np.zeros(50), Scores(score))] * 2
    assert np.isnan(improvement("roc_auc", days, *nothing, confidence=0.95, samples=100, seed=1).low)
