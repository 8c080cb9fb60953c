"""Feast's online stores with our writes: `feast materialize` and `store.push` keep the promises of online_writing.py.

feature_repo/store.py names them in feature_store.yaml. What Redis holds, Feast reads by its own code; SQLite's rows
are wider than Feast's, so they are read here.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureView
from feast.infra.infra_object import InfraObject
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.redis import RedisOnlineStore as FeastRedisOnlineStore
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStore as FeastSqliteOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStoreConfig
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.utils import make_tzaware

from configs.environments import RedisOnlineStore
from feature_repo.online_layout import (
    SQLITE_KEY,
    SQLITE_TIMESTAMP,
    OnlineView,
    epoch_microseconds,
    quoted,
    sqlite_table,
)
from feature_repo.online_redis import RedisWriter, connect
from feature_repo.online_sqlite import SqliteWriter
from feature_repo.online_writing import EncodedRows, OnlineWriter

DEFINITION_TAG = "definition"
"""Tag of a feature view that holds what its values are written under."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_DEFINITION = "0" * 16
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
        SqliteWriter(self._get_db_path(config)).write(*_encoded(config, table, data))
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
        names = requested_features or [field.name for field in table.features]
        keys = [_key(config, key) for key in entity_keys]
        columns = ", ".join([SQLITE_KEY, SQLITE_TIMESTAMP, *map(quoted, names)])
        query = f"SELECT {columns} FROM {sqlite_table(table.name)} WHERE {SQLITE_KEY} IN ({','.join('?' * len(keys))})"
        found = {row[0]: row[1:] for row in self._get_conn(config).execute(query, keys)}
        return [_read_row(found.get(key), names) for key in keys]

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

    _writer: RedisWriter | None = None

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: _FeastRows, progress: Callable[[int], Any] | None
    ) -> None:
        """Store the rows, unless newer ones are stored."""
        self._writer = self._writer or RedisWriter(config.online_store.address)
        self._writer.write(*_encoded(config, table, data))
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: _FeastRows, progress: Callable[[int], Any] | None
    ) -> None:
        """As `online_write_batch`, in the caller's thread."""
        self.online_write_batch(config, table, data, progress)

    def _get_client(self, online_store_config: Any) -> Any:
        # Feast's own takes the password from the file.
        if not self._client:
            self._client = connect(online_store_config.address)
        return self._client


def _encoded(config: RepoConfig, table: FeatureView, data: _FeastRows) -> tuple[OnlineView, EncodedRows]:
    view = _view(table)
    keys = [_key(config, key) for key, _, _, _ in data]
    moments = [epoch_microseconds(make_tzaware(moment)) for _, _, moment, _ in data]
    values = [[row[name].SerializeToString() for _, row, _, _ in data] for name in view.features]
    return view, EncodedRows(keys, moments, values)


def _view(table: FeatureView) -> OnlineView:
    definition = bytes.fromhex(table.tags.get(DEFINITION_TAG, _NO_DEFINITION))
    return OnlineView(table.name, dict.fromkeys(table.join_keys, ""), _names(table.features), definition)


def _names(fields: Iterable[Any]) -> dict[str, str]:
    return {field.name: str(field.dtype) for field in fields}


def _key(config: RepoConfig, key: EntityKey) -> bytes:
    return serialize_entity_key(key, entity_key_serialization_version=config.entity_key_serialization_version)


def _read_row(row: tuple[Any, ...] | None, names: list[str]) -> tuple[datetime | None, dict[str, Value] | None]:
    if row is None:
        return None, None
    values = {name: Value.FromString(message or b"") for name, message in zip(names, row[1:], strict=True)}
    return _EPOCH + timedelta(microseconds=row[0]), values
