"""Fit a candidate and measure it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from configs.errors import MlwayError
from configs.products import ModelProduct
from configs.splits import Part
from mlway_assets.compute.evaluation import OneClassError
from mlway_assets.compute.measurement import Measured, measure_baseline, measured, metrics_of, targets
from mlway_assets.compute.population import LABEL, QUERY, part_of
from serving.scoring import ModelContract, ScoringModel, feature_matrix, learn_levels

if TYPE_CHECKING:
    import lightgbm

_FIXED = {"verbosity": -1, "deterministic": True, "force_row_wise": True}
"""Row-wise histograms and `deterministic` make the same data and seed give the same model."""
_LOSS: dict[str, dict[str, Any]] = {
    "binary": {"objective": "binary", "metric": "binary_logloss"},
    "l2": {"objective": "l2", "metric": "l2"},
    "l1": {"objective": "l1", "metric": "l1"},
    "quantile": {"objective": "quantile", "metric": "quantile", "alpha": 0.5},
    "lambdarank": {"objective": "lambdarank", "metric": "ndcg"},
}
"""What is minimised, and what early stopping looks at on validation."""


class EmptyPartError(MlwayError):
    """A part of the split has no labelled row."""

    def __init__(self, which: str) -> None:
        super().__init__(
            f"No row{which} has a label that is known.\n"
            "Hint: check the days that were delivered, and the dates of the split."
        )


@dataclass(frozen=True)
class Candidate:
    """A fitted model with what was measured on each part, and the scores of the test part for the report.

    `bounds` are the interval's lower and upper booster.
    """

    model_text: str
    contract: ModelContract
    rounds: int
    metrics: dict[str, float]
    test: Measured
    importance: dict[str, float]
    bounds: tuple[str, str] | None = None


def train(product: ModelProduct, features: dict[str, str], frame: pl.DataFrame) -> Candidate:
    """Fit on the training part, stop early on validation, read the test part once, for the report.

    `frame` has the features, `label`, `label_known_at` and, in a ranking, `query_key`; `features` gives the model's
    features and their types. Raises EmptyPartError, OneClassError, NothingToRankError, RelevanceError.
    """
    training, validation, test = (_part(frame, product, name) for name in ("train", "validate", "test"))
    interval = product.interval
    contract = ModelContract(
        product=product.name,
        features=features,
        levels=learn_levels(training, features),
        task=product.task,
        interval=None if interval is None else (interval.lower, interval.upper),
    )
    boosters = _fit(product, contract, training, validation)
    texts = [booster.model_to_string(num_iteration=booster.best_iteration) for booster in boosters]
    model = _model(texts, contract)
    seen = {"validation": measured(product, validation, model.scores(validation))}
    seen["test"] = measured(product, test, model.scores(test))
    metrics = {"train_rows": float(len(training))}
    for name, part in (("validation", validation), ("test", test)):
        metrics |= _named(name, product, seen[name], part)
    gains = zip(features, boosters[0].feature_importance("gain"), strict=True)
    return Candidate(
        model_text=texts[0],
        contract=contract,
        rounds=boosters[0].best_iteration,
        metrics=metrics,
        test=seen["test"],
        importance={name: float(gain) for name, gain in gains},
        bounds=(texts[1], texts[2]) if interval is not None else None,
    )


def _part(frame: pl.DataFrame, product: ModelProduct, name: Part) -> pl.DataFrame:
    """A part that something can be learned from or judged by, before any time is spent on it."""
    rows, (start, end) = part_of(frame, product, name), product.training.split.bounds(name)
    since = "" if start is None else f" from {start:%Y-%m-%d}"
    which = f" of {product.name} for {name!r},{since} until {end:%Y-%m-%d},"
    if not len(rows):
        raise EmptyPartError(which)
    if product.task == "binary" and rows[LABEL].n_unique() < 2:
        raise OneClassError(len(rows), which)
    return rows


def _named(name: str, product: ModelProduct, seen: Measured, part: pl.DataFrame) -> dict[str, float]:
    """The metrics of one part under its name, and what the baseline reaches there in the gate's metric."""
    found = {f"{name}_{metric}": value for metric, value in metrics_of(product, seen).items()}
    metric = product.gate.metric_name
    return found | {f"{name}_baseline_{metric}": measure_baseline(product, part)[metric]}


def _model(texts: list[str], contract: ModelContract) -> ScoringModel:
    import lightgbm

    booster, *ends = (lightgbm.Booster(model_str=text) for text in texts)
    return ScoringModel(booster, contract, digest="", bounds=(ends[0], ends[1]) if ends else None)


def _fit(
    product: ModelProduct, contract: ModelContract, training: pl.DataFrame, validation: pl.DataFrame
) -> "list[lightgbm.Booster]":
    """The main booster, then those of the interval's ends. All learn from one data set, which is binned once."""
    losses = [_LOSS[product.objective]]
    losses += [_LOSS["quantile"] | {"alpha": alpha} for alpha in contract.interval or ()]
    if product.gate.k is not None:
        losses[0] = losses[0] | {"eval_at": [product.gate.k]}
    fit = _dataset(product, contract, training, None)
    held_out = _dataset(product, contract, validation, fit)
    return [_boost(product, loss, fit, held_out) for loss in losses]


def _boost(
    product: ModelProduct, loss: dict[str, Any], fit: "lightgbm.Dataset", held_out: "lightgbm.Dataset"
) -> "lightgbm.Booster":
    import lightgbm

    spec = product.training
    return lightgbm.train(
        _FIXED | spec.parameters | loss | {"seed": spec.seed},
        fit,
        num_boost_round=spec.rounds,
        valid_sets=[held_out],
        callbacks=[lightgbm.early_stopping(spec.early_stopping_rounds, verbose=False)],
    )


def _dataset(
    product: ModelProduct, contract: ModelContract, frame: pl.DataFrame, reference: "lightgbm.Dataset | None"
) -> "lightgbm.Dataset":
    import lightgbm

    sizes = None
    if product.ranking is not None:  # LightGBM wants each query's rows side by side, and how many they are.
        frame = frame.sort(QUERY, maintain_order=True)
        sizes = frame.group_by(QUERY, maintain_order=True).len()["len"].to_numpy().astype(np.int32)
    if reference is not None:
        return lightgbm.Dataset(
            feature_matrix(frame, contract), targets(product, frame), reference=reference, group=sizes
        )
    return lightgbm.Dataset(
        feature_matrix(frame, contract),
        targets(product, frame),
        group=sizes,
        feature_name=list(contract.features),
        categorical_feature=[name for name, kind in contract.features.items() if kind == "string"],
    )
