"""Fit a candidate, of one algorithm or the best of several, and measure it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from configs.algorithms import Algorithm
from configs.errors import MlwayError
from configs.products import ModelProduct
from configs.search import Value
from configs.splits import Part
from mlway_assets.compute.algorithms import Fitted, fit
from mlway_assets.compute.evaluation import OneClassError
from mlway_assets.compute.measurement import Measured, measure_baseline, measured, metrics_of
from mlway_assets.compute.population import LABEL, part_of
from serving.scoring import ModelContract, ScoringModel, learn_levels


@dataclass(frozen=True)
class Considered:
    """What one of the product's algorithms reached on validation, with which parameters, after how many rounds."""

    algorithm: Algorithm
    parameters: dict[str, Value | None]
    rounds: int
    metrics: dict[str, float]


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

    `bounds` are the interval's lower and upper booster; `considered` are all algorithms that were trained, of which
    the candidate is the best.
    """

    model_text: str
    contract: ModelContract
    algorithm: Algorithm
    rounds: int
    metrics: dict[str, float]
    test: Measured
    importance: dict[str, float]
    considered: tuple[Considered, ...]
    bounds: tuple[str, str] | None = None


def train(product: ModelProduct, features: dict[str, str], frame: pl.DataFrame) -> Candidate:
    """Fit each algorithm on the training part, take the best on validation; read the test part once, for the report.

    `frame` has the features, `label`, `label_known_at` and, in a ranking, `query_key`; `features` gives the model's
    features and their types. Raises EmptyPartError, OneClassError, NothingToRankError,
    RelevanceError, UnknownParameterError, ConvergenceError.
    """
    training, validation, test = (_part(frame, product, part) for part in ("train", "validate", "test"))
    contract = learn_contract(product, features, training)
    fitted: dict[Algorithm, Fitted] = {}
    seen: dict[Algorithm, Considered] = {}
    for name in product.training.algorithms.names:
        fitted[name] = fit(name, product, contract, training, validation)
        scores = scoring_model(fitted[name].texts, contract).scores(validation)
        found = metrics_of(product, measured(product, validation, scores))
        seen[name] = Considered(name, product.training.algorithms.parameters(name), fitted[name].rounds, found)
    best = best_algorithm(product, seen)
    return _candidate(
        product, contract, best, fitted[best], seen, {"train": training, "validation": validation, "test": test}
    )


def best_algorithm(product: ModelProduct, seen: Mapping[Algorithm, Considered]) -> Algorithm:
    """That with the best of the gate's metric; of equals, the first."""
    metric, better = product.gate.metric_name, min if product.gate.is_lower_better else max
    return better(seen, key=lambda name: seen[name].metrics[metric])


def _candidate(
    product: ModelProduct,
    contract: ModelContract,
    algorithm: Algorithm,
    fitted: Fitted,
    seen: Mapping[Algorithm, Considered],
    parts: Mapping[str, pl.DataFrame],
) -> Candidate:
    model, test = scoring_model(fitted.texts, contract), parts["test"]
    tested = measured(product, test, model.scores(test))
    metrics = {"train_rows": float(len(parts["train"]))}
    metrics |= _named("validation", product, seen[algorithm].metrics, parts["validation"])
    metrics |= _named("test", product, metrics_of(product, tested), test)
    gains = zip(contract.features, model.booster.feature_importance("gain"), strict=True)
    return Candidate(
        model_text=fitted.texts[0],
        contract=contract,
        algorithm=algorithm,
        rounds=fitted.rounds,
        metrics=metrics,
        test=tested,
        importance={name: float(gain) for name, gain in gains},
        considered=tuple(seen.values()),
        bounds=(fitted.texts[1], fitted.texts[2]) if contract.interval is not None else None,
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


def _named(name: str, product: ModelProduct, found: Mapping[str, float], part: pl.DataFrame) -> dict[str, float]:
    """The metrics of one part under its name, and what the baseline reaches there in the gate's metric."""
    metric = product.gate.metric_name
    named = {f"{name}_{each}": value for each, value in found.items()}
    return named | {f"{name}_baseline_{metric}": measure_baseline(product, part)[metric]}


def scoring_model(texts: Sequence[str], contract: ModelContract) -> ScoringModel:
    """A model that scores as its files would: the main booster's text, then those of the interval's ends."""
    import lightgbm

    booster, *ends = (lightgbm.Booster(model_str=text) for text in texts)
    return ScoringModel(booster, contract, digest="", bounds=(ends[0], ends[1]) if ends else None)
