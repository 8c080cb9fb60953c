"""Feast's online stores with our writes: `feast materialize` and `store.push` keep the promises of online_writing.py.

feature_repo/store.py names them in feature_store.yaml. What Redis holds, Feast reads by its own code, which knows
nothing of definitions; SQLite's tables are not Feast's, so they are read here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from feast import Entity, FeatureView, Field
from feast.infra.infra_object import InfraObject
from feast.infra.online_stores.redis import RedisOnlineStore as FeastRedisOnlineStore
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStore as FeastSqliteOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStoreConfig
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.types import Bool, Float64, Int64, String
from feast.utils import make_tzaware

from configs.environments import RedisOnlineStore
from feature_repo.column_types import POLARS_TYPES
from feature_repo.online_layout import (
    SQLITE_DEFINITION,
    SQLITE_TIMESTAMP,
    OnlineStoreError,
    OnlineView,
    quoted,
    sqlite_columns,
    sqlite_table,
)
from feature_repo.online_redis import RedisWriter, connect, connect_async
from feature_repo.online_sqlite import SqliteWriter
from feature_repo.online_writing import OnlineWriter, checked_rows
from feature_repo.windows import EVENT_TIMESTAMP

DEFINITION_TAG = "definition"
"""Tag of a feature view that holds what its values are written under."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_DEFINITION = "0" * 16
_KINDS: Mapping[Any, str] = {Float64: "float64", Int64: "int64", String: "string", Bool: "boolean"}
_FIELDS = {"float64": "double_val", "int64": "int64_val", "string": "string_val", "boolean": "bool_val"}
_FeastRows = list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]]


def writer_of(config: RepoConfig) -> OnlineWriter:
    """The writer of the online store that feature_store.yaml names."""
    if isinstance(config.online_store, GuardedRedisOnlineStoreConfig):
        return RedisWriter(config.online_store.address)
    return SqliteWriter(config.online_store.path)


class GuardedSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """`online_store` in feature_store.yaml."""

    type: str = "feature_repo.feast_online_stores.GuardedSqliteOnlineStore"  # type: ignore[assignment]


class GuardedSqliteOnlineStore(FeastSqliteOnlineStore):
    """The embedded store behind Feast's interface."""

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: _FeastRows, progress: Callable[[int], Any] | None
    ) -> None:
        """Store the rows, unless newer ones are stored."""
        SqliteWriter(self._get_db_path(config)).write(*_frame(table, data))
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """The moment and the values of each entity; Nones where there is none."""
        view = _view(table)
        view = replace(view, features={name: view.features[name] for name in requested_features or view.features})
        names = sorted(view.join_keys)
        keys = [tuple(_natives(key)[name] for name in names) for key in entity_keys]
        columns = ", ".join([*map(quoted, names), SQLITE_TIMESTAMP, *sqlite_columns(view)])
        marks = ", ".join([f"({', '.join('?' * len(names))})"] * len(keys))
        asked = f"({', '.join(map(quoted, names))}) IN (VALUES {marks})"
        query = f"SELECT {columns} FROM {sqlite_table(view.name)} WHERE {SQLITE_DEFINITION} = ? AND {asked}"
        rows = self._get_conn(config).execute(query, [view.definition, *(value for key in keys for value in key)])
        found = {row[: len(names)]: row[len(names) :] for row in rows}
        return [_values(found.get(key), view) for key in keys]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Make and drop tables as views come and go."""
        writer = SqliteWriter(self._get_db_path(config))
        for table in tables_to_keep:
            writer.prepare(_view(table))
        for table in tables_to_delete:
            writer.drop(table.name)

    def plan(self, config: RepoConfig, desired_registry_proto: Registry) -> list[InfraObject]:
        """Nothing that `update` does not do: Feast would plan tables of its own layout."""
        return []

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Delete the file, with the log of writes beside it that would be applied to the next one."""
        super().teardown(config, tables, entities)
        for suffix in ("-wal", "-shm"):
            Path(self._get_db_path(config) + suffix).unlink(missing_ok=True)


class GuardedRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """`online_store` in feature_store.yaml."""

    type: str = "feature_repo.feast_online_stores.GuardedRedisOnlineStore"  # type: ignore[assignment]
    address: RedisOnlineStore


class GuardedRedisOnlineStore(FeastRedisOnlineStore):
    """Redis behind Feast's interface."""

    _own_writer: RedisWriter | None = None

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: _FeastRows, progress: Callable[[int], Any] | None
    ) -> None:
        """Store the rows, unless newer ones are stored."""
        self._writer(config).write(*_frame(table, data))
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: _FeastRows, progress: Callable[[int], Any] | None
    ) -> None:
        """As `online_write_batch`, in the caller's thread."""
        self.online_write_batch(config, table, data, progress)

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Delete the view's values."""
        self._writer(config).drop(_view(table))

    def _writer(self, config: RepoConfig) -> RedisWriter:
        self._own_writer = self._own_writer or RedisWriter(config.online_store.address)
        return self._own_writer

    def _get_client(self, online_store_config: Any) -> Any:
        # Feast's own takes the password from the file.
        if not self._client:
            self._client = connect(online_store_config.address)
        return self._client

    async def _get_client_async(self, online_store_config: Any) -> Any:
        if not self._client_async:
            self._client_async = connect_async(online_store_config.address)
        return self._client_async


def _view(table: FeatureView) -> OnlineView:
    definition = bytes.fromhex(table.tags.get(DEFINITION_TAG, _NO_DEFINITION))
    features = {field.name: _kind(table, field) for field in table.features}
    return OnlineView(
        table.name, {field.name: _kind(table, field) for field in table.entity_columns}, features, definition
    )


def _kind(table: FeatureView, field: Field) -> str:
    if field.dtype not in _KINDS:
        raise OnlineStoreError(
            f"{table.name}.{field.name} is a {field.dtype}, which our online stores do not hold.\n"
            f"Hint: declare it in configs/features/ as one of {', '.join(_KINDS.values())}."
        )
    return _KINDS[field.dtype]


def _frame(table: FeatureView, data: _FeastRows) -> tuple[OnlineView, pl.DataFrame]:
    view = _view(table)
    rows = [
        {EVENT_TIMESTAMP: make_tzaware(moment)} | _natives(key) | {name: _native(row[name]) for name in view.features}
        for key, row, moment, _ in data
    ]
    kinds = {**view.join_keys, EVENT_TIMESTAMP: "timestamp", **view.features}
    return view, checked_rows(view, pl.DataFrame(rows, {name: POLARS_TYPES[kind] for name, kind in kinds.items()}))


def _natives(key: EntityKey) -> dict[str, Any]:
    return dict(zip(key.join_keys, map(_native, key.entity_values), strict=True))


def _native(value: Value) -> Any:
    field = value.WhichOneof("val")
    return getattr(value, field) if field else None


def _values(row: tuple[Any, ...] | None, view: OnlineView) -> tuple[datetime | None, dict[str, Value] | None]:
    if row is None:
        return None, None
    values = {
        name: Value() if value is None else Value(**{_FIELDS[kind]: value})
        for (name, kind), value in zip(view.features.items(), row[1:], strict=True)
    }
    return _EPOCH + timedelta(microseconds=row[0]), values
