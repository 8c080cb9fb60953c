"""Fit a candidate and measure it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from configs.products import ModelProduct
from mlway_assets.compute.evaluation import Array, binary_metrics
from mlway_assets.compute.population import LABEL, part_of
from serving.scoring import ModelContract, ScoringModel, feature_matrix, learn_levels

if TYPE_CHECKING:
    import lightgbm

_FIXED = {"objective": "binary", "verbosity": -1, "deterministic": True, "force_row_wise": True}
"""Row-wise histograms and `deterministic` make the same data and seed give the same model."""


@dataclass(frozen=True)
class Candidate:
    """A fitted model with what was measured on each part, and the scores of the test part for the report."""

    model_text: str
    contract: ModelContract
    rounds: int
    metrics: dict[str, float]
    test_labels: Array
    test_scores: Array
    importance: dict[str, float]


def train(product: ModelProduct, features: dict[str, str], frame: pl.DataFrame) -> Candidate:
    """Fit on the training part, stop early on validation, read the test part once, for the report.

    `frame` has the features, `label` and `label_known_at`; `features` gives the model's features and their types.
    Raises OneClassError.
    """
    import lightgbm

    training, validation, test = (part_of(frame, product, part) for part in ("train", "validate", "test"))
    contract = ModelContract(product=product.name, features=features, levels=learn_levels(training, features))
    booster = _fit(product, contract, training, validation)
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    model = ScoringModel(lightgbm.Booster(model_str=text), contract, digest="")
    metrics = {"train_rows": float(len(training))}
    scores = np.empty(0)
    for name, part in (("validation", validation), ("test", test)):
        scores = model.score(part)
        metrics |= {f"{name}_{metric}": value for metric, value in binary_metrics(_labels(part), scores).items()}
    gains = zip(features, booster.feature_importance("gain"), strict=True)
    return Candidate(
        text, contract, booster.best_iteration, metrics, _labels(test), scores, {name: float(g) for name, g in gains}
    )


def _fit(
    product: ModelProduct, contract: ModelContract, training: pl.DataFrame, validation: pl.DataFrame
) -> "lightgbm.Booster":
    import lightgbm

    spec = product.training
    names = list(contract.features)
    categorical = [name for name, kind in contract.features.items() if kind == "string"]
    fit = lightgbm.Dataset(
        feature_matrix(training, contract), _labels(training), feature_name=names, categorical_feature=categorical
    )
    return lightgbm.train(
        _FIXED | spec.parameters | {"seed": spec.seed, "metric": "binary_logloss"},
        fit,
        num_boost_round=spec.rounds,
        valid_sets=[lightgbm.Dataset(feature_matrix(validation, contract), _labels(validation), reference=fit)],
        callbacks=[lightgbm.early_stopping(spec.early_stopping_rounds, verbose=False)],
    )


def _labels(frame: pl.DataFrame) -> Array:
    return frame[LABEL].cast(pl.Float64).to_numpy()
