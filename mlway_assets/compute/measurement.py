"""What a product's task makes of its rows: what is learned from each, and how good some scores for them are.

The metrics themselves are in evaluation.py.
"""

from dataclasses import dataclass

import polars as pl

from configs.errors import MlwayError
from configs.products import ModelProduct
from feature_repo.expressions import parse
from mlway_assets.compute.evaluation import (
    Array,
    NothingToRankError,
    OneClassError,
    binary_metrics,
    ranking_metrics,
    regression_metrics,
)
from mlway_assets.compute.population import LABEL, QUERY
from serving.baseline import baseline_scores
from serving.scoring import Scores

SCORE, LOWER, UPPER = "score", "lower", "upper"
MOST_RELEVANT = 30
"""The gain of a grade is 2^grade - 1, which LightGBM counts in 32 bits."""


class RelevanceError(MlwayError):
    """A ranking's relevance is not a whole number from 0 to 30 for every row."""


@dataclass(frozen=True)
class Measured:
    """Rows with what was to be learned from them and what a model says; `queries` in a ranking alone."""

    targets: Array
    scores: Scores
    queries: pl.Series | None = None


def targets(product: ModelProduct, frame: pl.DataFrame) -> Array:
    """What is learned from each row: the label, or in a ranking its grade. Raises RelevanceError."""
    if product.ranking is None:
        return frame[LABEL].cast(pl.Float64).to_numpy()
    grades = frame.select(parse(product.ranking.relevance).cast(pl.Float64).alias("grade"))["grade"]
    is_grade = (grades.is_between(0, MOST_RELEVANT) & (grades == grades.floor())).fill_null(value=False)
    if not is_grade.all():
        label = frame.filter(~is_grade)[LABEL][0]
        raise RelevanceError(
            f"The relevance of {product.name} for the label {label!r} is {grades.filter(~is_grade)[0]}.\n"
            f"Hint: `ranking.relevance` must give a whole number from 0 to {MOST_RELEVANT}."
        )
    return grades.to_numpy()


def measured(product: ModelProduct, frame: pl.DataFrame, scores: Scores) -> Measured:
    """The rows of `frame` with their scores. Raises RelevanceError."""
    return Measured(targets(product, frame), scores, None if product.ranking is None else frame[QUERY])


def metrics_of(product: ModelProduct, rows: Measured) -> dict[str, float]:
    """The metrics of the product's task. Raises OneClassError, NothingToRankError."""
    if product.task == "regression":
        return regression_metrics(rows.targets, rows.scores)
    if rows.queries is not None and product.gate.k is not None:
        return ranking_metrics(rows.queries, rows.targets, rows.scores.score, product.gate.k)
    return binary_metrics(rows.targets, rows.scores.score)


def told_metrics(product: ModelProduct, rows: Measured) -> dict[str, float]:
    """As `metrics_of`; none where the rows cannot tell good from bad: on a day on which all are late nobody can."""
    try:
        return metrics_of(product, rows) if len(rows.targets) else {}
    except (OneClassError, NothingToRankError):
        return {}


def score_columns(scores: Scores) -> list[pl.Series]:
    """`score`, and with an interval `lower` and `upper`."""
    columns = {SCORE: scores.score, LOWER: scores.lower, UPPER: scores.upper}
    return [pl.Series(name, values, dtype=pl.Float64) for name, values in columns.items() if values is not None]


def scored_rows(product: ModelProduct, rows: pl.DataFrame) -> Measured:
    """Rows that hold their scores, as `score_columns` names them. Raises RelevanceError."""
    lower, upper = (rows[end].to_numpy() if end in rows.columns else None for end in (LOWER, UPPER))
    return measured(product, rows, Scores(rows[SCORE].to_numpy(), lower, upper))


def measure(product: ModelProduct, frame: pl.DataFrame, scores: Scores) -> dict[str, float]:
    """The metrics of `scores` for the rows of `frame`.

    Raises OneClassError, NothingToRankError, RelevanceError.
    """
    return metrics_of(product, measured(product, frame, scores))


def measure_baseline(product: ModelProduct, frame: pl.DataFrame) -> dict[str, float]:
    """The metrics of the declared baseline for the rows of `frame`. Raises as `measure` does."""
    return measure(product, frame, baseline_scores(product, frame))
