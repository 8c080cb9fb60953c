"""The Delta lake: read a table at a version, replace it or some of its days in one commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from configs.environments import Lake as LakeAddress
from configs.errors import MlwayError
from configs.secrets import resolve_secrets


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


class ChangedTypesError(MlwayError):
    """Rows that are to be added have columns of other types than the table."""

    def __init__(self, table: str, changed: Sequence[str]) -> None:
        super().__init__(
            f"{table} has columns of other types than the rows to be added: {', '.join(changed)}. "
            "Nothing was written.\n"
            "Hint: what has changed its type is something else: declare it under another name."
        )


class ConcurrentWriteError(MlwayError):
    """Another process has added to a table in the meantime. Nothing was written."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"Another process has added rows to {table} just now. Nothing was written.\nHint: run it again."
        )


class MissingVersionError(MlwayError):
    """A version of a table is not there: never written, or its log or files were removed."""

    def __init__(self, layer: str, table: str, version: int, newest: int) -> None:
        self.layer, self.table, self.version = layer, table, version
        why = f"the newest is {newest}" if version > newest else "its files were removed from the lake, by a vacuum say"
        super().__init__(
            f"The lake has no version {version} of {layer}/{table}: {why}.\n"
            "Hint: `mlway training-sets` lists versions with what they were built from."
        )


@dataclass(frozen=True)
class Commit:
    """One version of a table: when it was written, and what its writer recorded with it."""

    version: int
    written_at: datetime
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Lake:
    """Tables by layer and name. Every write is one atomic Delta commit: readers see all of it or nothing."""

    address: LakeAddress

    def version(self, layer: str, table: str) -> int:
        """The newest version. Raises MissingTableError."""
        return self._open(layer, table).version()

    def scan(self, layer: str, table: str, version: int | None = None) -> pl.LazyFrame:
        """The table, lazily, at `version` or as it is now. Raises MissingTableError, MissingVersionError."""
        return pl.scan_delta(self._open(layer, table, version))

    def scan_days(
        self, layer: str, table: str, days: Sequence[date], column: str = "event_day", version: int | None = None
    ) -> pl.LazyFrame:
        """The rows of these days, at `version` or as they are now."""
        return self.scan(layer, table, version).filter(pl.col(column).is_in(list(days)))

    def exists(self, layer: str, table: str) -> bool:
        """Whether the table has been written."""
        return DeltaTable.is_deltatable(self.address.table_uri(layer, table), self._options())

    def commits(self, layer: str, table: str, limit: int | None = None) -> list[Commit]:
        """The newest `limit` versions, or every one, newest first; none of a table that was never written."""
        if not self.exists(layer, table):
            return []
        while True:
            opened = self._open(layer, table)
            history = opened.history(limit)
            # delta-rs lists the whole log but counts down from the version that was opened: a commit made in
            # between would shift every number.
            if self.version(layer, table) == opened.version():
                return [_commit(opened.version() - age, found) for age, found in enumerate(history)]

    def newest_recorded(self, layer: str, table: str, name: str, up_to: int | None = None) -> Commit | None:
        """The newest commit, up to that version, that recorded `name`; None where none did.

        Such as compaction and vacuum, which record nothing, are passed over.
        """
        for limit in (8, None):  # a long history is read only where the last few commits do not tell
            for commit in self.commits(layer, table, limit):
                if name in commit.metadata and (up_to is None or commit.version <= up_to):
                    return commit
        return None

    def require_files(self, layer: str, table: str, version: int) -> None:
        """Raises MissingTableError, or MissingVersionError where the log or a file of that version is gone."""
        opened = self._open(layer, table, version)
        try:
            pl.scan_delta(opened).select(pl.len()).collect()
        except FileNotFoundError as error:
            raise MissingVersionError(layer, table, version, self.version(layer, table)) from error

    def changed_days(
        self, layer: str, table: str, before: int, after: int, column: str = "event_day"
    ) -> list[date] | None:
        """The days whose files two versions do not share; None of a table that is not kept by day.

        Raises MissingTableError, MissingVersionError.
        """
        files = [self._files_by_day(layer, table, version, column) for version in (before, after)]
        if files[0] is None or files[1] is None:
            return None
        return sorted({day for _, day in files[0] ^ files[1]})

    def _files_by_day(self, layer: str, table: str, version: int, column: str) -> set[tuple[str, date]] | None:
        opened = self._open(layer, table, version)
        if opened.metadata().partition_columns != [column]:
            return None
        added = pa.table(opened.get_add_actions(flatten=True))
        days = added[f"partition.{column}"].to_pylist()
        return set(zip(added["path"].to_pylist(), days, strict=True))

    def replace(self, layer: str, table: str, frame: pl.DataFrame, metadata: Mapping[str, Any] | None = None) -> int:
        """Replace the whole table. Returns the new version. `metadata`, JSON by name, is part of the same commit."""
        return self._write(layer, table, frame, predicate=None, partition_by=None, metadata=metadata)

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

    def append(
        self,
        layer: str,
        table: str,
        frame: pl.DataFrame,
        metadata: Mapping[str, Any],
        after: int | None,
        partition_by: str = "event_day",
    ) -> int:
        """Add rows, perhaps none, with a record of them, to `after`, the version in which the former record was read.

        After None the table begins. Columns may be added; where a row lacks one it is null. Returns the new version.
        Raises ConcurrentWriteError when another record was written since, ChangedTypesError.
        """
        opened = None if after is None else self._open(layer, table, after)
        if opened is not None:
            self._require_same_types(opened, f"{layer}/{table}", frame)
        number = -1 if after is None else after
        try:
            write_deltalake(
                opened or self.address.table_uri(layer, table),
                _arrow(frame),
                mode="append" if opened else "error",
                partition_by=[partition_by],
                schema_mode="merge" if opened else None,
                storage_options=self._options(),
                # Two writers with one application's name conflict, so that nothing is ever added twice.
                commit_properties=CommitProperties(
                    custom_metadata=dict(metadata), app_transactions=[Transaction("mlway.append", number + 1)]
                ),
                post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
            )
        except CommitFailedError as error:
            raise ConcurrentWriteError(f"{layer}/{table}") from error
        except DeltaError as error:
            if after is None and self.exists(layer, table):
                raise ConcurrentWriteError(f"{layer}/{table}") from error
            raise
        return self.version(layer, table)

    def _require_same_types(self, opened: DeltaTable, table: str, frame: pl.DataFrame) -> None:
        before = {field.name: field.type for field in opened.schema().fields}
        after = {field.name: field.type for field in Schema.from_arrow(_arrow(frame).schema).fields}
        changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
        if changed:
            raise ChangedTypesError(table, changed)

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
        self,
        layer: str,
        table: str,
        frame: pl.DataFrame,
        predicate: str | None,
        partition_by: list[str] | None,
        metadata: Mapping[str, Any] | None = None,
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
            commit_properties=CommitProperties(custom_metadata=dict(metadata)) if metadata else None,
            # By default delta-rs removes log files after 30 days, and with them every older version and its record.
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )
        return self.version(layer, table)

    def _open(self, layer: str, table: str, version: int | None = None) -> DeltaTable:
        try:
            return DeltaTable(self.address.table_uri(layer, table), version=version, storage_options=self._options())
        except DeltaError as error:
            if version is not None and self.exists(layer, table):
                raise MissingVersionError(layer, table, version, self.version(layer, table)) from error
            if isinstance(error, TableNotFoundError):
                raise MissingTableError(layer, table) from error
            raise

    def _options(self) -> dict[str, str]:
        return dict(self.address.storage_options) | resolve_secrets(self.address.storage_secrets)


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _commit(version: int, found: Mapping[str, Any]) -> Commit:
    return Commit(version, datetime.fromtimestamp(found["timestamp"] / 1000, UTC), found)
