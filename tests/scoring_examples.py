"""A small model of each task, as several test modules use them."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl

from serving.scoring import ModelContract, feature_matrix, learn_levels, write_model

FEATURES = {"delay": "float64", "flights": "int64", "carrier": "string", "is_late": "boolean"}
TASKS = ("binary", "regression", "regression with interval", "ranking")
_LOSS: dict[str, dict[str, Any]] = {
    "binary": {"objective": "binary"},
    "regression": {"objective": "quantile", "alpha": 0.5},
    "ranking": {"objective": "lambdarank"},
}


def frame(rows: int, seed: int = 0) -> pl.DataFrame:
    """Feature rows, some of their values missing."""
    random = np.random.default_rng(seed)
    values = pl.DataFrame(
        {
            "delay": random.normal(size=rows),
            "flights": random.integers(0, 50, rows),
            "carrier": random.choice(["AA", "B6", "UA"], rows),
            "is_late": random.random(rows) < 0.3,
        }
    )
    is_missing = pl.Series(random.random(rows) < 0.1)
    return values.with_columns(pl.when(~is_missing).then(pl.col("delay", "carrier")).name.keep())


def write_example(task: str, folder: Path) -> Path:
    """Train a model of `task` and write its files."""
    kind, has_interval = task.partition(" ")[0], task.endswith("interval")
    data = frame(2000)
    contract = ModelContract(
        product="p",
        features=FEATURES,
        levels=learn_levels(data, FEATURES),
        task=kind,  # type: ignore[arg-type]
        interval=(0.1, 0.9) if has_interval else None,
    )
    noise = np.random.default_rng(1).normal(size=len(data))
    value = data["delay"].fill_null(0).to_numpy() + (data["carrier"] == "B6").fill_null(value=False).to_numpy() + noise
    target = {"binary": value > 0.5, "regression": value, "ranking": np.digitize(value, [0, 1])}[kind]
    text = _train(_LOSS[kind], data, contract, target)
    bounds = None
    if has_interval:
        ends = [_train({"objective": "quantile", "alpha": q}, data, contract, target) for q in (0.1, 0.9)]
        bounds = (ends[0], ends[1])
    write_model(text, contract, folder, bounds=bounds)
    return folder


def _train(loss: dict[str, Any], data: pl.DataFrame, contract: ModelContract, target: np.ndarray) -> str:
    group = np.full(len(data) // 10, 10) if loss["objective"] == "lambdarank" else None
    fit = lightgbm.Dataset(feature_matrix(data, contract), target.astype(float), group=group, categorical_feature=[2])
    settings = {"verbosity": -1, "num_threads": 1, "min_data_per_group": 10, "cat_smooth": 1}
    return str(lightgbm.train(settings | loss, fit, 40).model_to_string())
