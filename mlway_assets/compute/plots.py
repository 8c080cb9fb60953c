"""Pictures of a candidate on the test part: those of its task, and feature importance."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from configs.tasks import Task
from mlway_assets.compute.evaluation import Array, calibration_bins, is_covered, query_ndcg
from mlway_assets.compute.measurement import Measured
from mlway_assets.compute.training import Candidate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_FEATURES = 20
MOST_ROWS_IN_A_QUERY = 12
"""Larger queries are shown as one."""


def candidate_plots(candidate: Candidate) -> dict[str, "Figure"]:
    """File name to figure, of the test part."""
    from matplotlib.figure import Figure

    drawings = _drawings(candidate.contract.task, candidate.test)
    drawings["importance"] = partial(_importance, importance=candidate.importance)
    figures = {name: Figure(figsize=(5, 4), layout="constrained") for name in drawings}
    for name, draw in drawings.items():
        draw(figures[name].subplots())
    return figures


def _drawings(task: Task, test: Measured) -> "dict[str, Callable[[Axes], None]]":
    """What is drawn of the scores of this task."""
    if task == "binary":
        return {name: partial(draw, test=test) for name, draw in _BINARY.items()}
    if test.queries is not None:
        return {name: partial(draw, test=test, queries=test.queries) for name, draw in _RANKING.items()}
    drawings: dict[str, Callable[[Axes], None]] = {"predicted_and_actual": partial(_predicted_and_actual, test=test)}
    if test.scores.interval is not None:
        drawings["interval_coverage"] = partial(_interval_coverage, test=test, interval=test.scores.interval)
    return drawings


def _roc(axes: "Axes", test: Measured) -> None:
    from sklearn import metrics

    false_positives, true_positives, _ = metrics.roc_curve(test.targets, test.scores.score)
    _curve(axes, false_positives, true_positives, "False positive rate", "True positive rate")


def _precision_recall(axes: "Axes", test: Measured) -> None:
    from sklearn import metrics

    precision, recall, _ = metrics.precision_recall_curve(test.targets, test.scores.score)
    _curve(axes, recall, precision, "Recall", "Precision")


def _curve(axes: "Axes", x: Array, y: Array, x_label: str, y_label: str) -> None:
    axes.plot(x, y)
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.01))
    axes.grid(alpha=0.3)


def _calibration(axes: "Axes", test: Measured) -> None:
    predicted, observed, _ = calibration_bins(test.targets, test.scores.score, bins=20)
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="perfect")
    axes.plot(predicted, observed, marker="o", label="model")
    axes.set(xlabel="Mean score", ylabel="Rate of positives", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    axes.grid(alpha=0.3)


def _predicted_and_actual(axes: "Axes", test: Measured) -> None:
    """Quartiles of the actual values over twentieths of the rows by score."""
    parts = _parts_by_score(test)
    middle = [float(test.scores.score[part].mean()) for part in parts]
    low, median, high = (np.array([np.quantile(test.targets[part], q) for part in parts]) for q in (0.25, 0.5, 0.75))
    axes.plot(middle, middle, linestyle="--", color="grey", label="perfect")
    axes.fill_between(middle, low, high, alpha=0.2, label="actual, middle half")
    axes.plot(middle, median, marker="o", label="actual, median")
    axes.set(xlabel="Mean score", ylabel="Actual")
    axes.legend()
    axes.grid(alpha=0.3)


def _interval_coverage(axes: "Axes", test: Measured, interval: tuple[Array, Array]) -> None:
    """The share of actual values within their interval, over twentieths of the rows by score."""
    covered = is_covered(test.targets, interval)
    parts = _parts_by_score(test)
    middle = [float(test.scores.score[part].mean()) for part in parts]
    axes.axhline(float(covered.mean()), linestyle="--", color="grey", label="all rows")
    axes.plot(middle, [float(covered[part].mean()) for part in parts], marker="o", label="by score")
    axes.set(xlabel="Mean score", ylabel="Share within the interval", ylim=(0, 1.01))
    axes.legend()
    axes.grid(alpha=0.3)


def _parts_by_score(test: Measured, parts: int = 20) -> list[np.ndarray]:
    order = np.argsort(test.scores.score, kind="stable")
    return [part for part in np.array_split(order, parts) if len(part)]


def _ndcg_by_query_size(axes: "Axes", test: Measured, queries: pl.Series) -> None:
    both = _with_random_order(test, queries)
    found = both.group_by(pl.col("rows").clip(upper_bound=MOST_ROWS_IN_A_QUERY)).mean().sort("rows")
    axes.plot(found["rows"], found["ndcg_random"], marker=".", color="grey", linestyle="--", label="random order")
    axes.plot(found["rows"], found["ndcg"], marker="o", label="model")
    axes.set(xlabel=f"Rows in the query ({MOST_ROWS_IN_A_QUERY} and more as one)", ylabel="Mean NDCG", ylim=(0, 1.01))
    axes.legend()
    axes.grid(alpha=0.3)


def _with_random_order(test: Measured, queries: pl.Series) -> pl.DataFrame:
    k = MOST_ROWS_IN_A_QUERY
    found = query_ndcg(queries, test.targets, test.scores.score, k)
    random = query_ndcg(queries, test.targets, np.zeros(len(test.targets)), k)
    return found.join(random.drop("rows"), on="query", suffix="_random").drop("query")


def _grade_by_position(axes: "Axes", test: Measured, queries: pl.Series) -> None:
    """The mean grade at each position of the order that the scores give."""
    rows = pl.DataFrame({"query": queries, "grade": test.targets, "score": test.scores.score})
    ranked = rows.with_columns(pl.col("score").rank("ordinal", descending=True).over("query").alias("position"))
    found = (
        ranked.filter(pl.col("position") <= MOST_ROWS_IN_A_QUERY).group_by("position").agg(pl.col("grade").mean())
    ).sort("position")
    axes.bar(found["position"], found["grade"])
    axes.set(xlabel="Position", ylabel="Mean relevance")
    axes.grid(alpha=0.3)


def _importance(axes: "Axes", importance: dict[str, float]) -> None:
    best = sorted(importance.items(), key=lambda item: item[1])[-MOST_FEATURES:]
    axes.barh([name for name, _ in best], [gain for _, gain in best])
    axes.set(xlabel="Gain")
    axes.tick_params(axis="y", labelsize=7)


_BINARY = {"roc": _roc, "precision_recall": _precision_recall, "calibration": _calibration}
_RANKING = {"ndcg_by_query_size": _ndcg_by_query_size, "grade_by_position": _grade_by_position}
