"""What several test modules share: the small platform's configuration, made from the real one."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from configs.load import PROJECT_ROOT, load_environment, load_project
from feature_repo.store import register_features
from mlway_assets.resources import Platform

GATES = {
    "flight_delay": {"metric": "roc_auc", "minimum": 0.55},
    "arrival_delay": {"metric": "mae", "maximum": 40, "coverage": {"minimum": 0.5, "maximum": 0.95}},
    "flight_ranking": {"metric": "ndcg_at_k", "k": 5, "minimum": 0.6},
}
"""Limits that six weeks are enough for."""
FIRST_DAY, LAST_DAY, NOW = "2013-01-01", "2013-02-12", "2013-02-09T00:00:00Z"


def write_small_configs(folder: Path, state: Path) -> Path:
    """A copy of configs/ in which the split and the days fit six weeks, and no gate stands in the way."""
    shutil.copytree(PROJECT_ROOT / "configs", folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name, gate in GATES.items():
        product_file = folder / "products" / f"{name}.yaml"
        product = yaml.safe_load(product_file.read_text(encoding="utf-8"))
        product["training"] |= {"rounds": 30, "early_stopping_rounds": 10}
        product["training"]["split"] = {
            "train_until": "2013-01-28T00:00:00Z",
            "validate_until": "2013-02-04T00:00:00Z",
            "test_until": "2013-02-09T00:00:00Z",
        }
        product["gate"] = gate
        product_file.write_text(yaml.safe_dump(product), encoding="utf-8")
    environment_file = folder / "environments" / "local.yaml"
    environment = yaml.safe_load(environment_file.read_text(encoding="utf-8"))
    environment |= {"state": str(state), "days": {"first": FIRST_DAY, "last": LAST_DAY}}
    environment["clock"] = {"kind": "replay", "at": NOW}
    environment_file.write_text(yaml.safe_dump(environment), encoding="utf-8")
    return folder


def open_small_platform(folder: Path) -> Platform:
    """The platform of a folder made by `write_small_configs`."""
    return Platform(load_project(folder), load_environment("local", folder))


def redeclared(platform: Platform, product: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Platform:
    """The platform after a change of a product's file, in the configuration beside its state."""
    folder = platform.environment.state.parent / "configs"
    file = folder / "products" / f"{product}.yaml"
    content = change(yaml.safe_load(file.read_text(encoding="utf-8")))
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return open_small_platform(folder)


def copy_of_state(platform: Platform, folder: Path) -> Platform:
    """The platform over a copy of its lake and feature store, for tests that write."""
    for name in ("lake", "feast"):
        shutil.copytree(platform.environment.state / name, folder / "state" / name)
    copied = open_small_platform(write_small_configs(folder / "configs", folder / "state"))
    register_features(copied.environment, copied.project)  # the registry names the tables by their paths
    return copied


def move_paths(old: Path, new: Path) -> None:
    """MLflow keeps absolute paths in its database."""
    with sqlite3.connect(new / "mlflow" / "mlflow.db") as database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(old), str(new)))
