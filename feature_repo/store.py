"""Open the feature store of an environment, register the declared features, fill the online store."""

import importlib
import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from configs.environments import Environment, OnlineStore, SqliteOnlineStore
from configs.features import TableFeatures
from configs.load import Project
from configs.secrets import resolve_secrets
from feature_repo.aggregations import ALWAYS
from feature_repo.online_writing import replace_values
from feature_repo.windows import EVENT_TIMESTAMP

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

    from feature_repo.retrieval_job import PolarsRetrievalJob

FEATURE_STORE_FILE = Path(__file__).parent / "feature_store.yaml"
_SQLITE_FILE = "sqlite:///"
_ONLINE_STORES = "feature_repo.feast_online_stores"


def feast_variables(environment: Environment) -> dict[str, str]:
    """The variables of feature_store.yaml."""
    return {
        "MLWAY_FEAST_REGISTRY": environment.feature_store.registry,
        "MLWAY_FEAST_ONLINE_STORE": json.dumps(_online_store(environment.feature_store.online)),
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
    for folder in _local_folders(environment):
        folder.mkdir(parents=True, exist_ok=True)
    config = _with(_read_config(feast_variables(environment)), {"offline_store": _offline_store(environment)})
    config = _with(config, settings or {})
    return FeatureStore(config=RepoConfig(**config, repo_path=FEATURE_STORE_FILE.parent))


def register_features(environment: Environment, project: Project) -> "FeatureStore":
    """Apply every declared object to the registry and create the online tables; what is no longer declared goes.

    Its online values go too. Saved data sets stay.
    """
    store = open_store(environment)
    from feature_repo.objects import build_objects

    objects = build_objects(project, environment)
    store.apply(objects, objects_to_delete=_no_longer_declared(store, objects), partial=False)
    return store


def _no_longer_declared(store: "FeatureStore", objects: Sequence[Any]) -> list[Any]:
    from feast import Entity, FeatureService
    from feast.base_feature_view import BaseFeatureView
    from feast.feature_view import DUMMY_ENTITY_NAME  # Feast's own, of views without an entity

    registry, project = store.registry, store.project
    registered: dict[Any, list[Any]] = {
        FeatureService: registry.list_feature_services(project),
        Entity: registry.list_entities(project),
        BaseFeatureView: [*registry.list_feature_views(project), *registry.list_on_demand_feature_views(project)],
    }
    gone = []
    for kind, found in registered.items():
        kept = {DUMMY_ENTITY_NAME, *(each.name for each in objects if isinstance(each, kind))}
        gone += [each for each in found if each.name not in kept]
    return gone


def historical_features(store: "FeatureStore", rows: pl.DataFrame, service: str) -> "PolarsRetrievalJob":
    """The features of a service for every row of `rows`, as of its `event_timestamp`."""
    from feature_repo.retrieval_job import PolarsRetrievalJob

    job = store.get_historical_features(entity_df=rows, features=store.get_feature_service(service))
    if not isinstance(job, PolarsRetrievalJob):
        raise TypeError(f"feature_store.yaml must name PolarsOfflineStore, not the store of {type(job).__name__}")
    return job


@dataclass(frozen=True)
class Materialized:
    """What a materialization did: rows that it wrote, and entities that it deleted because they have no value."""

    written: int
    deleted: int


def materialize_group(
    store: "FeatureStore", group: TableFeatures, until: datetime, since: datetime | None = None
) -> Materialized:
    """Write each entity's newest values as of `until` to the online store, and note the interval in Feast's registry.

    Full: values past their ttl are left out, and what the lake knows nothing of is deleted. With `since`, only values
    from after that moment are read. Values that were pushed and are newer stay. Raises OnlineStoreError.
    """
    from feature_repo.feast_online_stores import writer_of

    oldest = until - group.time_to_live if group.time_to_live else ALWAYS
    start = oldest if since is None else max(oldest, since + timedelta(microseconds=1))
    view = store.get_feature_view(group.name)
    values = _newest_values(store, view, group, start, until)
    written, deleted = replace_values(writer_of(store.config), group, values, until, prune=since is None)
    if start < until:  # an incremental one that has nothing to read yet covers no time
        store.registry.apply_materialization(view, store.project, start, until)
    return Materialized(written, deleted)


def _newest_values(
    store: "FeatureStore", view: "FeatureView", group: TableFeatures, start: datetime, until: datetime
) -> pl.DataFrame:
    from feature_repo.offline_store import PolarsOfflineStore

    keys, features = list(group.join_keys), list(group.types)
    job = PolarsOfflineStore.pull_latest_from_table_or_query(
        store.config, view.batch_source, keys, features, EVENT_TIMESTAMP, None, start, until
    )
    return pl.DataFrame(pl.from_arrow(job.to_arrow()))


def _local_folders(environment: Environment) -> list[Path]:
    """Where files are to be made: neither SQLite nor Feast makes a folder."""
    store = environment.feature_store
    files = [store.online.path] if isinstance(store.online, SqliteOnlineStore) else []
    if store.registry.startswith(_SQLITE_FILE):
        files.append(store.registry.removeprefix(_SQLITE_FILE))
    return [Path(file).parent for file in files]


def _online_store(online: OnlineStore) -> dict[str, Any]:
    """Feast's `online_store` section: names of secrets, no secrets."""
    if isinstance(online, SqliteOnlineStore):
        return {"type": f"{_ONLINE_STORES}.GuardedSqliteOnlineStore", "path": online.path}
    return {"type": f"{_ONLINE_STORES}.GuardedRedisOnlineStore", "address": online.model_dump()}


def _offline_store(environment: Environment) -> dict[str, Any]:
    """How tables are reached and joined. Secrets are resolved here, in memory alone."""
    lake = environment.lake
    options = dict(lake.storage_options) | resolve_secrets(lake.storage_secrets)
    return {"storage_options": options, **environment.feature_store.history.model_dump()}


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
