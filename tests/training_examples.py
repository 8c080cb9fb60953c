"""Small products and rows that a model can learn from within seconds, as several test modules use them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from configs.products import ModelProduct

FEATURES = {"delay": "float64", "flights": "int64", "carrier": "string", "is_late": "boolean"}
SPACE: dict[str, Any] = {
    "learning_rate": {"kind": "float", "low": 0.01, "high": 0.5, "log": True},
    "num_leaves": {"kind": "int", "low": 2, "high": 31},
    "max_cat_to_onehot": {"kind": "choice", "values": [1, 4]},
}
FIRST = datetime(2013, 1, 1, tzinfo=UTC)
DAYS = 50
_GATES: dict[str, dict[str, Any]] = {
    "binary": {"metric": "roc_auc", "minimum": 0.5},
    "regression": {"metric": "mae", "maximum": 10},
}


def product(task: str = "binary", **training: Any) -> ModelProduct:
    """A product whose training part is the first 30 of 50 days, then 10 of validation and 10 of test."""
    return ModelProduct.model_validate(
        {
            "name": "example",
            "description": "An example.",
            "owner": "team:tests",
            "task": task,
            "population": {
                "table": "fact_examples",
                "request": {"flights": "int64", "at": "timestamp"},
                "event_time": "at",
                "horizon": "1h",
            },
            "label": {"expression": "label", "known_at": "known_at"},
            "features": ["examples"],
            "training": {
                "algorithms": {"lightgbm": {"learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 5}},
                "rounds": 30,
                "early_stopping_rounds": 5,
                "seed": 7,
                "split": {
                    "train_until": FIRST + timedelta(days=30),
                    "validate_until": FIRST + timedelta(days=40),
                    "test_until": FIRST + timedelta(days=DAYS),
                },
            }
            | training,
            "gate": _GATES[task],
            "baseline": {"score": 0.5},
        }
    )


def rows(task: str = "binary", each_day: int = 30, seed: int = 0) -> pl.DataFrame:
    """Labelled rows over all days, some of their values missing; each label is known a day after its event."""
    random, number = np.random.default_rng(seed), DAYS * each_day
    values = pl.DataFrame(
        {
            "at": [FIRST + timedelta(days=row // each_day, minutes=row % each_day) for row in range(number)],
            "delay": random.normal(size=number),
            "flights": random.integers(0, 50, number),
            "carrier": random.choice(["AA", "B6", "UA", "WN"], number),
            "is_late": random.random(number) < 0.3,
        }
    )
    effect = values["delay"] + 0.03 * values["flights"] + 1.5 * (values["carrier"] == "B6") - 1.5
    noisy = effect + pl.Series(random.normal(size=number))
    is_missing = pl.Series(random.random(number) < 0.1)
    return values.with_columns(
        pl.when(~is_missing).then(pl.col("delay", "carrier", "is_late")).name.keep(),
        (noisy > 0 if task == "binary" else noisy).alias("label"),
        (pl.col("at") + timedelta(days=1)).alias("label_known_at"),
    )
