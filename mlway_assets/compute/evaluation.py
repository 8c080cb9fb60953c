"""How good scores are: probabilities, values with their intervals, and orders.

Which of these a product is measured by is in measurement.py.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from configs.errors import MlwayError
from serving.scoring import Scores

Array = NDArray[np.float64]


class OneClassError(MlwayError):
    """All labels are of one class, so that ranking metrics have no meaning."""

    def __init__(self, rows: int, of: str = "") -> None:
        super().__init__(
            f"All {rows} labels{of} are of one class.\n"
            "Hint: check the days that were delivered, the label's expression, and the dates of the split."
        )


class NothingToRankError(MlwayError):
    """No query has two rows of different grades, so that every order is as good as any other."""

    def __init__(self, rows: int) -> None:
        super().__init__(
            f"None of the queries of these {rows} rows has rows of different relevance.\n"
            "Hint: check `ranking` in the product's file and the dates of the split."
        )


def binary_metrics(labels: Array, scores: Array) -> dict[str, float]:
    """ROC AUC, average precision, log loss, Brier score, expected calibration error, and the rate of positives.

    Raises OneClassError.
    """
    from sklearn import metrics

    if len(np.unique(labels)) < 2:
        raise OneClassError(len(labels))
    return {
        "roc_auc": float(metrics.roc_auc_score(labels, scores)),
        "average_precision": float(metrics.average_precision_score(labels, scores)),
        "log_loss": float(metrics.log_loss(labels, scores)),
        "brier": float(metrics.brier_score_loss(labels, scores)),
        "calibration_error": calibration_error(labels, scores),
        "positive_rate": float(labels.mean()),
        "rows": float(len(labels)),
    }


def calibration_bins(labels: Array, scores: Array, bins: int = 10) -> tuple[Array, Array, Array]:
    """Mean score, rate of positives and share of rows in each of `bins` equally filled bins of the score."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return (
        np.array([scores[part].mean() for part in parts]),
        np.array([labels[part].mean() for part in parts]),
        np.array([len(part) / len(labels) for part in parts]),
    )


def calibration_error(labels: Array, scores: Array, bins: int = 10) -> float:
    """Expected calibration error over equally filled bins: sum of share * |rate - mean score|.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning (AAAI 2015).
    """
    predicted, observed, share = calibration_bins(labels, scores, bins)
    return float(np.sum(share * np.abs(observed - predicted)))


def regression_metrics(labels: Array, scores: Scores) -> dict[str, float]:
    """Mean and median absolute error, root mean squared error, bias (mean of score - label), and R squared.

    With an interval also its coverage, the share of labels that it holds, and its mean width.
    """
    errors = scores.score - labels
    spread = float(np.sum((labels - labels.mean()) ** 2))
    found = {
        "mae": float(np.abs(errors).mean()),
        "median_absolute_error": float(np.median(np.abs(errors))),
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "bias": float(errors.mean()),
        "r2": 1 - float(np.sum(errors**2)) / spread if spread else float("nan"),
        "rows": float(len(labels)),
    }
    if scores.interval is None:
        return found
    lower, upper = scores.interval
    return found | {
        "coverage": float(is_covered(labels, scores.interval).mean()),
        "interval_width": float((upper - lower).mean()),
    }


def is_covered(labels: Array, interval: tuple[Array, Array]) -> NDArray[np.bool_]:
    """Whether each label lies between the interval's lower and upper end, ends included."""
    lower, upper = interval
    return (lower <= labels) & (labels <= upper)


def query_ndcg(queries: pl.Series, grades: Array, scores: Array, k: int) -> pl.DataFrame:
    """Columns `query`, `rows` and `ndcg`, NDCG@k, of each query that any order can be better or worse for.

    Gain 2^grade - 1, discount 1 / log2(position + 1) up to position k (Burges et al. 2005). Rows with the same score
    share their positions' mean discount (McSherry & Najork 2008): no order among them is made up, so that a constant
    score has the NDCG that a random order has on average. Queries whose rows all have one grade are left out.
    """
    rows = pl.DataFrame({"query": queries, "gain": 2.0**grades - 1, "score": scores})
    told = rows.filter(pl.col("gain").n_unique().over("query") > 1)
    found, best = (_discounted_gain(told, by, k) for by in ("score", "gain"))
    return found.join(best, on="query", validate="1:1").select(
        "query", "rows", (pl.col("total") / pl.col("total_right")).alias("ndcg")
    )


def ranking_metrics(queries: pl.Series, grades: Array, scores: Array, k: int) -> dict[str, float]:
    """Mean NDCG@k over the queries that have rows of different grades, how many those are, and all rows.

    Raises NothingToRankError.
    """
    by_query = query_ndcg(queries, grades, scores, k)
    mean = by_query["ndcg"].mean()
    if not isinstance(mean, float):
        raise NothingToRankError(len(grades))
    return {f"ndcg_at_{k}": mean, "queries": float(len(by_query)), "rows": float(len(grades))}


def _discounted_gain(rows: pl.DataFrame, by: str, k: int) -> pl.DataFrame:
    position = pl.int_range(1, pl.len() + 1).over("query")
    discount = pl.when(position <= k).then(1 / (position + 1).log(2)).otherwise(0.0)
    return (
        rows.sort("query", by, descending=[False, True])
        .with_columns(discount.alias("discount"))
        .with_columns(pl.col("discount").mean().over("query", by))
        .group_by("query", maintain_order=True)
        .agg(pl.len().alias("rows"), (pl.col("gain") * pl.col("discount")).sum().alias("total"))
    )
