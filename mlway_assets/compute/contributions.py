"""What a model's scores are made of: each feature's contributions on a sample of rows, and how much of that has moved.

The contributions are exact SHAP values of the trees (Lundberg et al. 2018), which sum to the raw score.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from configs.products import ModelProduct
from mlway_assets.compute.evaluation import Array
from serving.scoring import ScoringModel, feature_matrix

MOST_ROWS = 1_000
"""A row of 400 trees takes about a millisecond; the mean of so many rows is known to a few percent."""


@dataclass(frozen=True)
class Contributions:
    """Rows by features: what each value added to the raw score, beside the value that the model saw.

    `bias` is what every row begins with.
    """

    features: Mapping[str, str]
    values: Array
    added: Array
    bias: float

    @property
    def importance(self) -> dict[str, float]:
        """The mean absolute contribution of each feature, in the raw score's unit, the greatest first."""
        means = np.abs(self.added).mean(axis=0).tolist()
        return dict(sorted(zip(self.features, means, strict=True), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class ImportanceShift:
    """How much of the importance lies elsewhere than in another model, measured on the same rows.

    `rank_correlation` is Spearman's, None where one model has the same importance everywhere. `moved_share` is the
    total variation distance of both importances, each as shares of its sum: 0 is alike, 1 has nothing in common.
    """

    rank_correlation: float | None
    moved_share: float


def sampled(rows: pl.DataFrame, seed: int, most: int = MOST_ROWS) -> pl.DataFrame:
    """`most` of the rows, in their order; the same for the same rows and seed."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]


def contributions_of(model: ScoringModel, rows: pl.DataFrame) -> Contributions:
    """What the scores of these rows are made of. Raises MissingFeaturesError."""
    matrix = feature_matrix(rows, model.contract)
    found = model.contributions(matrix, threads=0)
    bias = float(found[0, -1]) if len(found) else 0.0
    return Contributions(model.contract.features, matrix, found[:, :-1], bias)


def importance_of(product: ModelProduct, rows: pl.DataFrame, model: ScoringModel) -> dict[str, float]:
    """The importance of each feature on the product's sample of these rows. Raises MissingFeaturesError."""
    return contributions_of(model, sampled(rows, product.training.seed)).importance


def importance_shift(first: Mapping[str, float], second: Mapping[str, float]) -> ImportanceShift:
    """How far apart two importances lie. A feature that one model lacks has no importance there."""
    names = sorted(first.keys() | second.keys())
    ours, theirs = (np.array([found.get(name, 0.0) for name in names]) for found in (first, second))
    return ImportanceShift(_rank_correlation(ours, theirs), float(np.abs(_shares(ours) - _shares(theirs)).sum() / 2))


def _shares(importance: Array) -> Array:
    total = importance.sum()
    return importance / total if total else np.full(len(importance), 1 / len(importance))


def _rank_correlation(first: Array, second: Array) -> float | None:
    from scipy import stats

    ranks = [stats.rankdata(each) for each in (first, second)]
    if any(np.ptp(each) == 0 for each in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])
