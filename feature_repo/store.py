"""Open the feature store of an environment, register the declared features, fill the online store."""

import contextlib
import importlib
import io
import os
import sqlite3
import time
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from configs.environments import Environment
from configs.features import TableFeatures
from configs.load import Project
from feature_repo.aggregations import ALWAYS

if TYPE_CHECKING:
    from feast import FeatureStore

    from feature_repo.retrieval_job import PolarsRetrievalJob

FEATURE_STORE_FILE = Path(__file__).parent / "feature_store.yaml"


def feast_variables(environment: Environment) -> dict[str, str]:
    """The variables of feature_store.yaml."""
    return {
        "MLWAY_FEAST_REGISTRY": environment.feature_store.registry,
        "MLWAY_FEAST_ONLINE_STORE": environment.feature_store.online_path,
    }


def open_store(environment: Environment, settings: Mapping[str, Any] | None = None) -> "FeatureStore":
    """The environment's feature store; `settings` replace those of feature_store.yaml.

    Loads Feast, which takes seconds the first time.
    """
    _use_utc()
    _import_feast()
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    # Feast calls on-demand views experimental at every apply; ours are pinned and tested.
    warnings.filterwarnings("ignore", message="On demand feature view is an experimental", category=RuntimeWarning)
    online = Path(environment.feature_store.online_path)
    online.parent.mkdir(parents=True, exist_ok=True)
    config = _with(_read_config(feast_variables(environment)), settings or {})
    return FeatureStore(config=RepoConfig(**config, repo_path=FEATURE_STORE_FILE.parent))


def register_features(environment: Environment, project: Project) -> "FeatureStore":
    """Apply every declared object to the registry and create the online tables."""
    store = open_store(environment)
    from feature_repo.objects import build_objects

    store.apply(build_objects(project, environment))
    with sqlite3.connect(environment.feature_store.online_path) as connection:
        # Readers then never wait for a materialization, nor it for them. The file remembers it.
        connection.execute("PRAGMA journal_mode=WAL")
    return store


def historical_features(store: "FeatureStore", rows: pl.DataFrame, service: str) -> "PolarsRetrievalJob":
    """The features of a service for every row of `rows`, as of its `event_timestamp`."""
    from feature_repo.retrieval_job import PolarsRetrievalJob

    job = store.get_historical_features(entity_df=rows, features=store.get_feature_service(service))
    if not isinstance(job, PolarsRetrievalJob):
        raise TypeError(f"feature_store.yaml must name PolarsOfflineStore, not the store of {type(job).__name__}")
    return job


def materialize_group(store: "FeatureStore", group: TableFeatures, until: datetime) -> None:
    """Write each entity's newest values as of `until` to the online store. Values past their ttl are left out."""
    start = until - group.time_to_live if group.time_to_live else ALWAYS
    with contextlib.redirect_stdout(io.StringIO()):  # Feast prints its progress in colours.
        store.materialize(start_date=start, end_date=until, feature_views=[group.name])


def _read_config(variables: Mapping[str, str]) -> dict[str, Any]:
    text = Template(FEATURE_STORE_FILE.read_text(encoding="utf-8")).safe_substitute(variables)
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def _with(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with `settings`, one by one within a section."""
    return {**config, **{k: {**config[k], **v} if isinstance(v, dict) else v for k, v in settings.items()}}


def _use_utc() -> None:
    # Feast's SQLite store writes timestamps as the process's local time: in UTC they are the moments they mean.
    os.environ["TZ"] = "UTC"
    time.tzset()


def _import_feast() -> None:
    # Feast's run-time type checks rewrite the source of every decorated function at import: 5 of its 7 seconds.
    import typeguard

    checked = typeguard.typechecked
    typeguard.typechecked = lambda function=None, **_: function if function is not None else (lambda target: target)  # type: ignore[assignment]
    try:
        importlib.import_module("feast")
    finally:
        typeguard.typechecked = checked
