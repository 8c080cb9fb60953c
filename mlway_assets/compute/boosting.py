"""Fit LightGBM boosters. Which parts of the rows they learn from and how good they are is in training.py."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from configs.errors import MlwayError
from configs.products import ModelProduct
from configs.search import Value
from mlway_assets.compute.measurement import targets
from mlway_assets.compute.population import QUERY
from serving.scoring import ModelContract, feature_matrix

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


class UnknownParameterError(MlwayError):
    """LightGBM has no such parameter, and would train without a word."""

    def __init__(self, name: str, near: list[str]) -> None:
        meant = f"Did you mean {' or '.join(near)}?" if near else "See LightGBM's list of parameters."
        super().__init__(
            f"LightGBM has no parameter {name!r}. {meant}\n"
            "Hint: correct it in `training.algorithms.lightgbm` or `training.search.space`."
        )


def require_known(names: Iterable[str]) -> None:
    """Raises UnknownParameterError for the first that is no parameter of LightGBM, by any of its names."""
    from lightgbm import basic

    by_name = basic._ConfigAliases._get_all_param_aliases()
    known = {*by_name, *chain.from_iterable(by_name.values())}
    for name in names:
        if name not in known:
            raise UnknownParameterError(name, get_close_matches(name, sorted(by_name), n=2))


def fit_boosters(
    product: ModelProduct,
    contract: ModelContract,
    training: pl.DataFrame,
    validation: pl.DataFrame,
    parameters: Mapping[str, Value],
) -> "list[lightgbm.Booster]":
    """The main booster, then those of the interval's ends, each stopped early by `validation`.

    All learn from one data set, which is binned once. Raises UnknownParameterError, RelevanceError,
    lightgbm.basic.LightGBMError.
    """
    require_known(parameters)
    losses = [_LOSS[product.objective]]
    losses += [_LOSS["quantile"] | {"alpha": alpha} for alpha in contract.interval or ()]
    if product.gate.k is not None:
        losses[0] = losses[0] | {"eval_at": [product.gate.k]}
    fixed = {**_FIXED, **parameters, "seed": product.training.seed}
    fit = _dataset(product, contract, training, None)
    held_out = _dataset(product, contract, validation, fit)
    return [_boost(product, fixed | loss, fit, held_out) for loss in losses]


def _boost(
    product: ModelProduct, parameters: dict[str, Any], fit: "lightgbm.Dataset", held_out: "lightgbm.Dataset"
) -> "lightgbm.Booster":
    import lightgbm

    spec = product.training
    return lightgbm.train(
        parameters,
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
