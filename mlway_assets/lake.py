"""The Delta lake: read a table at a version, replace it or some of its days in one commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from configs.environments import Lake as LakeAddress
from configs.errors import MlwayError
from configs.secrets import resolve_secrets


class MissingTableError(MlwayError):
    """A table that is read has never been written."""

    def __init__(self, layer: str, table: str) -> None:
        super().__init__(f"The lake has no table {layer}/{table} yet.\nHint: run `mlway materialize`.")


@dataclass(frozen=True)
class Lake:
    """Tables by layer and name. Every write is one atomic Delta commit: readers see all of it or nothing."""

    address: LakeAddress

    def version(self, layer: str, table: str) -> int:
        """The newest version. Raises MissingTableError."""
        return self._open(layer, table).version()

    def scan(self, layer: str, table: str, version: int | None = None) -> pl.LazyFrame:
        """The table, lazily, at `version` or as it is now. Raises MissingTableError."""
        return pl.scan_delta(self._open(layer, table, version))

    def scan_days(self, layer: str, table: str, days: Sequence[date], column: str = "event_day") -> pl.LazyFrame:
        """The rows of these days."""
        return self.scan(layer, table).filter(pl.col(column).is_in(list(days)))

    def exists(self, layer: str, table: str) -> bool:
        """Whether the table has been written."""
        return DeltaTable.is_deltatable(self.address.table_uri(layer, table), self._options())

    def replace(self, layer: str, table: str, frame: pl.DataFrame) -> int:
        """Replace the whole table. Returns the new version."""
        return self._write(layer, table, frame, predicate=None, partition_by=None)

    def replace_days(
        self, layer: str, table: str, frame: pl.DataFrame, days: Sequence[date], column: str = "event_day"
    ) -> int:
        """Replace exactly these days with `frame`, which holds no others. Returns the new version."""
        strangers = frame.filter(~pl.col(column).is_in(list(days)).fill_null(value=False))[column].unique().sort()
        if len(strangers):
            raise ValueError(
                f"{layer}/{table}: rows of {strangers.to_list()} while replacing {min(days)} to {max(days)}"
            )
        listed = ", ".join(f"'{day.isoformat()}'" for day in days)
        predicate = f"{column} IN ({listed})" if self.exists(layer, table) else None
        return self._write(layer, table, frame, predicate, [column])

    def _write(
        self, layer: str, table: str, frame: pl.DataFrame, predicate: str | None, partition_by: list[str] | None
    ) -> int:
        uri = self.address.table_uri(layer, table)
        write_deltalake(
            uri,
            frame.to_arrow(compat_level=pl.CompatLevel.oldest()),
            mode="overwrite",
            predicate=predicate,
            partition_by=partition_by,
            schema_mode=None if predicate else "overwrite",
            storage_options=self._options(),
        )
        return self.version(layer, table)

    def _open(self, layer: str, table: str, version: int | None = None) -> DeltaTable:
        try:
            return DeltaTable(self.address.table_uri(layer, table), version=version, storage_options=self._options())
        except TableNotFoundError as error:
            raise MissingTableError(layer, table) from error

    def _options(self) -> dict[str, str]:
        return dict(self.address.storage_options) | resolve_secrets(self.address.storage_secrets)
