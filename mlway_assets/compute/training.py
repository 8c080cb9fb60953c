"""Fit a candidate and measure it."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from configs.products import ModelProduct
from mlway_assets.compute.boosting import fit_boosters
from mlway_assets.compute.measurement import Measured, measure_baseline, measured, metrics_of
from mlway_assets.compute.population import part_of
from serving.scoring import ModelContract, ScoringModel, learn_levels


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
    features and their types. Raises OneClassError, NothingToRankError, RelevanceError.
    """
    training, validation, test = (part_of(frame, product, part) for part in ("train", "validate", "test"))
    contract = learn_contract(product, features, training)
    boosters = fit_boosters(product, contract, training, validation, product.training.parameters)
    texts = [booster.model_to_string(num_iteration=booster.best_iteration) for booster in boosters]
    model = scoring_model(texts, contract)
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
        bounds=(texts[1], texts[2]) if contract.interval is not None else None,
    )


def learn_contract(product: ModelProduct, features: dict[str, str], training: pl.DataFrame) -> ModelContract:
    """What a model that learns from `training` expects, and what it gives."""
    interval = product.interval
    return ModelContract(
        product=product.name,
        features=features,
        levels=learn_levels(training, features),
        task=product.task,
        interval=None if interval is None else (interval.lower, interval.upper),
    )


def _named(name: str, product: ModelProduct, seen: Measured, part: pl.DataFrame) -> dict[str, float]:
    """The metrics of one part under its name, and what the baseline reaches there in the gate's metric."""
    found = {f"{name}_{metric}": value for metric, value in metrics_of(product, seen).items()}
    metric = product.gate.metric_name
    return found | {f"{name}_baseline_{metric}": measure_baseline(product, part)[metric]}


def scoring_model(texts: Sequence[str], contract: ModelContract) -> ScoringModel:
    """A model that scores as its files would: the main booster's text, then those of the interval's ends."""
    import lightgbm

    booster, *ends = (lightgbm.Booster(model_str=text) for text in texts)
    return ScoringModel(booster, contract, digest="", bounds=(ends[0], ends[1]) if ends else None)
