"""Feast's data sources as Polars frames: Delta tables and Parquet files, on disk or in an object store.

A source's timestamps may have any zone and unit: see timestamps.py for what becomes of them.
"""

from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from feast.data_format import DeltaFormat
from feast.infra.offline_stores.file_source import FileSource
from feast.repo_config import RepoConfig

from configs.errors import MlwayError
from feature_repo.delta_source import DeltaSource
from feature_repo.timestamps import as_utc

DELTA, PARQUET = "delta", "parquet"
Mode = Literal["append", "overwrite"]


class SourceError(MlwayError):
    """A data source cannot be read or written."""


def location(config: RepoConfig, source: Any) -> tuple[str, str, dict[str, str]]:
    """Format, path and storage options of a data source. Raises SourceError for a kind that is not known."""
    options = dict(config.offline_store.storage_options)
    if isinstance(source, DeltaSource):
        return DELTA, source.path, options
    if isinstance(source, FileSource):
        file = source.file_options
        path = str(FileSource.get_uri_for_file_path(repo_path=config.repo_path, uri=file.uri)).removeprefix("file://")
        if file.s3_endpoint_override:
            options |= {"endpoint_url": file.s3_endpoint_override}
        return (DELTA if isinstance(file.file_format, DeltaFormat) else PARQUET), path, options
    raise SourceError(
        f"PolarsOfflineStore does not read a {type(source).__name__}.\nHint: use a DeltaSource or a FileSource."
    )


def scan(config: RepoConfig, source: Any) -> tuple[pl.LazyFrame, dict[str, int]]:
    """The source's rows, and for a Delta table its path and version. Raises SourceError."""
    kind, path, options = location(config, source)
    if kind == DELTA:
        pinned = {pin.rstrip("/"): version for pin, version in config.offline_store.versions.items()}
        table = open_delta(path, options, pinned.get(path.rstrip("/")))
        return pl.scan_delta(table), {path: table.version()}
    return scan_parquet(path, options), {}


def scan_parquet(path: str, options: dict[str, str]) -> pl.LazyFrame:
    """A Parquet file, a folder of them, or a pattern. Raises SourceError when there is none."""
    frame = pl.scan_parquet(path, storage_options=options or None, glob=True)
    try:
        frame.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{path} cannot be read as Parquet: {error}.\nHint: check the source's path.") from error
    return frame


def open_delta(path: str, options: dict[str, str], version: int | None = None) -> DeltaTable:
    """The Delta table at `path`, as it is now or at `version`. Raises SourceError."""
    try:
        return DeltaTable(path, version=version, storage_options=options or None)
    except TableNotFoundError as error:
        raise SourceError(f"There is no Delta table at {path}.\nHint: materialize it, or mend its path.") from error


def is_taken(kind: str, path: str, options: dict[str, str]) -> bool:
    """Whether something lies at `path` already. Raises SourceError where that cannot be told."""
    try:
        if kind == DELTA:
            return DeltaTable.is_deltatable(path, storage_options=options or None)
        if "://" not in path:
            return Path(path).exists()
        pl.scan_parquet(path, storage_options=options or None, glob=False).collect_schema()
    except FileNotFoundError:
        return False
    except (OSError, DeltaError, pl.exceptions.PolarsError) as error:
        reason = ": ".join(str(error).splitlines()[:3])
        raise SourceError(
            f"Whether {path} is free cannot be told: {reason}.\n"
            "Hint: mend the store's storage_options and permissions, or allow it to be overwritten."
        ) from error
    return True


def append(config: RepoConfig, source: Any, table: pa.Table) -> None:
    """Add rows to a source, whole or not at all. Its columns must be the table's. Raises SourceError."""
    kind, path, options = location(config, source)
    rows, _ = scan(config, source)
    schema = rows.collect_schema()
    if set(table.column_names) != set(schema.names()):
        raise SourceError(
            f"The rows have the columns {', '.join(table.column_names)}; {path} has {', '.join(schema.names())}.\n"
            "Hint: write exactly the source's columns."
        )
    if kind == PARQUET and any(character in path for character in "*?["):
        raise SourceError(f"{path} is a pattern, not one file.\nHint: name one Parquet file, or use a Delta table.")
    given = pl.DataFrame(pl.from_arrow(table)).select(schema.names())
    added = given.select(_fitted(given[name], kind_, path) for name, kind_ in schema.items())
    write(kind, path, options, added, mode="append")


def _fitted(column: pl.Series, kind: pl.DataType, path: str) -> pl.Series:
    """The column in the source's type, with every value as it was."""
    if column.dtype == kind:
        return column
    if isinstance(kind, pl.Datetime) and isinstance(column.dtype, pl.Datetime):
        return column.to_frame().select(as_utc(column.name, column.dtype).cast(kind)).to_series()
    fitted = column.cast(kind, strict=False)
    if not fitted.cast(column.dtype, strict=False).eq_missing(column).all():
        raise SourceError(
            f"Column {column.name!r} holds {column.dtype}, which {path} cannot keep as {kind} without loss.\n"
            "Hint: write the source's own types."
        )
    return fitted


def write(kind: str, path: str, options: dict[str, str], frame: pl.DataFrame, *, mode: Mode) -> None:
    """Write a frame as a Delta commit or as one Parquet file, whole or not at all."""
    if kind == DELTA:
        arrow = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if mode == "append":
            write_deltalake(path, arrow, mode="append", storage_options=options or None)
        else:
            write_deltalake(path, arrow, mode="overwrite", schema_mode="overwrite", storage_options=options or None)
        return
    replace_parquet(
        path, options, pl.concat([scan_parquet(path, options).collect(), frame]) if mode == "append" else frame
    )


def replace_parquet(path: str, options: dict[str, str], frame: pl.DataFrame) -> None:
    """Write one Parquet file; on a disk, readers see the former one until this one is whole."""
    if "://" in path:
        frame.write_parquet(path, storage_options=options or None)
        return
    target = Path(path)
    if target.is_dir():
        raise SourceError(f"{path} is a folder.\nHint: name one Parquet file, or use a Delta table.")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".unfinished")
    frame.write_parquet(unfinished)
    unfinished.replace(target)
