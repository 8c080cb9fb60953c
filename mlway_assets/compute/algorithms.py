"""Fit one of a product's algorithms. Each gives boosters in LightGBM's text form, so that one core scores them all."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from configs.algorithms import Algorithm, HistogramBoosting, LogisticRegression
from configs.products import ModelProduct
from mlway_assets.compute import histogram_boosting, logistic_regression
from mlway_assets.compute.boosting import fit_boosters
from mlway_assets.compute.measurement import targets
from mlway_assets.compute.tree_text import booster_text
from serving.scoring import ModelContract, feature_matrix


@dataclass(frozen=True)
class Fitted:
    """The main booster's text, then those of the interval's ends; after how many rounds the main one was best."""

    texts: tuple[str, ...]
    rounds: int


def fit(
    algorithm: Algorithm,
    product: ModelProduct,
    contract: ModelContract,
    training: pl.DataFrame,
    validation: pl.DataFrame,
) -> Fitted:
    """Learn from `training`; boosting stops early by `validation`.

    Raises UnknownParameterError, RelevanceError, ConvergenceError, lightgbm.basic.LightGBMError.
    """
    declared = product.training.algorithms
    if algorithm == "histogram_boosting":
        return _histogram_boosting(
            declared.histogram_boosting or HistogramBoosting(), product, contract, training, validation
        )
    if algorithm == "logistic_regression":
        return _logistic_regression(declared.logistic_regression or LogisticRegression(), product, contract, training)
    boosters = fit_boosters(product, contract, training, validation, declared.lightgbm or {})
    texts = tuple(booster.model_to_string(num_iteration=booster.best_iteration) for booster in boosters)
    return Fitted(texts, boosters[0].best_iteration)


def _histogram_boosting(
    spec: HistogramBoosting,
    product: ModelProduct,
    contract: ModelContract,
    training: pl.DataFrame,
    validation: pl.DataFrame,
) -> Fitted:
    parts = [(feature_matrix(part, contract), targets(product, part)) for part in (training, validation)]
    columns = histogram_boosting.learn_columns(parts[0][0], _texts(contract), spec.max_bins)
    losses = [(product.objective, 0.5), *(("quantile", alpha) for alpha in contract.interval or ())]
    learned = [
        histogram_boosting.learn(
            spec,
            objective,
            columns,
            parts[0],
            parts[1],
            rounds=product.training.rounds,
            patience=product.training.early_stopping_rounds,
            seed=product.training.seed,
            quantile=quantile,
        )
        for objective, quantile in losses
    ]
    kind: Literal["binary", "regression"] = "binary" if product.task == "binary" else "regression"
    texts = tuple(booster_text(list(contract.features), kind, each.trees()) for each in learned)
    return Fitted(texts, learned[0].rounds)


def _logistic_regression(
    spec: LogisticRegression, product: ModelProduct, contract: ModelContract, training: pl.DataFrame
) -> Fitted:
    labels = targets(product, training)
    learned = logistic_regression.learn(spec, feature_matrix(training, contract), labels, _texts(contract))
    return Fitted((booster_text(list(contract.features), "binary", learned.trees()),), int(learned.model.n_iter_[0]))


def _texts(contract: ModelContract) -> tuple[int, ...]:
    """The places of the features that are texts."""
    return tuple(place for place, kind in enumerate(contract.features.values()) if kind == "string")
