"""The Delta lake: read a table at a version, replace it or some of its days in one commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import TableNotFoundError

from configs.environments import Lake as LakeAddress
from configs.errors import MlwayError
from mlway_assets.secrets import resolve_secrets


class MissingTableError(MlwayError):
    """A table that is read has never been written."""

    def __init__(self, layer: str, table: str) -> None:
        super().__init__(f"The lake has no table {layer}/{table} yet.\nHint: run `mlway materialize`.")


class ChangedColumnsError(MlwayError):
    """Some days of a table would have other columns than the rest."""

    def __init__(self, table: str, changed: Sequence[str], days: Sequence[str]) -> None:
        super().__init__(
            f"{table} holds {len(days)} other days, such as {days[0]}, in which columns are missing, additional or of "
            f"another type: {', '.join(changed)}. Nothing of it was written.\n"
            "Hint: run all its days at once, as `mlway materialize ingest` does without --from and --to."
        )


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
        """Replace exactly these days with `frame`, which holds no others. Returns the new version.

        Columns may change when no other days remain. Raises ChangedColumnsError when some do.
        """
        strangers = frame.filter(~pl.col(column).is_in(list(days)).fill_null(value=False))[column].unique().sort()
        if len(strangers):
            raise ValueError(
                f"{layer}/{table}: rows of {strangers.to_list()} while replacing {min(days)} to {max(days)}"
            )
        listed = ", ".join(f"'{day.isoformat()}'" for day in days)
        is_new = not self.exists(layer, table) or self._begins_anew(layer, table, frame, days, column)
        return self._write(layer, table, frame, None if is_new else f"{column} IN ({listed})", [column])

    def _begins_anew(self, layer: str, table: str, frame: pl.DataFrame, days: Sequence[date], column: str) -> bool:
        """Whether the columns change, which they may when every day is replaced."""
        opened = self._open(layer, table)
        before = {field.name: field.type for field in opened.schema().fields}
        after = {field.name: field.type for field in Schema.from_arrow(_arrow(frame).schema).fields}
        changed = sorted(name for name in before | after if before.get(name) != after.get(name))
        kept = {partition[column] for partition in opened.partitions()} - {day.isoformat() for day in days}
        if changed and kept:
            # Delta would turn the new values into the old type, cutting what does not fit.
            raise ChangedColumnsError(f"{layer}/{table}", changed, sorted(kept))
        return bool(changed)

    def _write(
        self, layer: str, table: str, frame: pl.DataFrame, predicate: str | None, partition_by: list[str] | None
    ) -> int:
        uri = self.address.table_uri(layer, table)
        write_deltalake(
            uri,
            _arrow(frame),
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


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
