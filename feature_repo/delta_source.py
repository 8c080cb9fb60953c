"""A Delta table as a Feast data source."""

import json
from collections.abc import Callable, Iterable

from deltalake import DeltaTable
from feast.data_source import DataSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.repo_config import RepoConfig
from feast.value_type import ValueType

_VALUE_TYPES = {
    "string": ValueType.STRING,
    "long": ValueType.INT64,
    "integer": ValueType.INT32,
    "double": ValueType.DOUBLE,
    "float": ValueType.FLOAT,
    "boolean": ValueType.BOOL,
    "timestamp": ValueType.UNIX_TIMESTAMP,
    "date": ValueType.UNIX_TIMESTAMP,
}


class DeltaSource(DataSource):
    """The Delta table at `path`, read by PolarsOfflineStore with the store's own storage options."""

    def __init__(
        self,
        *,
        name: str,
        path: str,
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        field_mapping: dict[str, str] | None = None,
        description: str | None = "",
        tags: dict[str, str] | None = None,
        owner: str | None = "",
    ) -> None:
        super().__init__(
            name=name,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
        )
        self.path = path

    def __hash__(self) -> int:
        return hash((self.name, self.path))

    def __eq__(self, other: object) -> bool:
        # Feast's own comparison leaves out what a subclass adds: a moved table would count as no change.
        return isinstance(other, DeltaSource) and bool(super().__eq__(other)) and self.path == other.path  # type: ignore[no-untyped-call]

    def source_type(self) -> "DataSourceProto.SourceType.ValueType":
        """Feast's mark of a source that a plugin brings."""
        return DataSourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: DataSourceProto) -> "DeltaSource":
        """The source as the registry holds it."""
        return DeltaSource(
            name=data_source.name,
            path=json.loads(data_source.custom_options.configuration)["path"],
            timestamp_field=data_source.timestamp_field,
            created_timestamp_column=data_source.created_timestamp_column,
            field_mapping=dict(data_source.field_mapping),
            description=data_source.description,
            tags=dict(data_source.tags),
            owner=data_source.owner,
        )

    def _to_proto_impl(self) -> DataSourceProto:
        options = json.dumps({"path": self.path}, sort_keys=True).encode()
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{__name__}.{type(self).__name__}",
            custom_options=DataSourceProto.CustomSourceOptions(configuration=options),
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            field_mapping=self.field_mapping,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def validate(self, config: RepoConfig) -> None:
        """Called by `feast apply`: the table must exist."""
        self._open(config)

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:
        """Column names and Delta types."""
        return [(field.name, str(field.type.type)) for field in self._open(config).schema().fields]

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """From Delta types to Feast's."""
        return lambda kind: _VALUE_TYPES[kind]

    def get_table_query_string(self) -> str:
        """How Feast's messages name the table."""
        return self.path

    def _open(self, config: RepoConfig) -> DeltaTable:
        return DeltaTable(self.path, storage_options=config.offline_store.storage_options or None)
