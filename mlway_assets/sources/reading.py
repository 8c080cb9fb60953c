"""What every reader shares: its interface, its error, and the conversion to the declared column types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import polars as pl

from configs.errors import MlwayError
from configs.schema import ColumnType
from configs.sources import SourceTable
from feature_repo.column_types import POLARS_TYPES

EVENT_DAY = "event_day"


class SourceError(MlwayError):
    """A source file or table cannot be read as declared. Nothing of it was written."""

    def __init__(self, place: str, problem: str, hint: str) -> None:
        super().__init__(f"{place}: {problem}\nHint: {hint}")


@dataclass(frozen=True)
class DaysRead:
    """Rows of the days that could be read, with a column `event_day`, and the error of each day that could not."""

    frame: pl.DataFrame
    failures: Mapping[date, SourceError] = field(default_factory=dict)


@dataclass(frozen=True)
class Changes:
    """What has changed since a cursor: the days of a partitioned table, or the whole of a snapshot."""

    days: tuple[date, ...]
    has_snapshot_changed: bool
    cursor: str


class TableReader(Protocol):
    """Reads one raw table."""

    place: str

    def read_days(self, days: Sequence[date]) -> DaysRead:
        """The rows of these event days."""
        ...

    def read_snapshot(self) -> pl.DataFrame:
        """All rows. Raises SourceError."""
        ...

    def changes(self, cursor: str | None) -> Changes:
        """What has changed since `cursor`; with None, everything there is."""
        ...


def conform(frame: pl.DataFrame, table: SourceTable, place: str) -> pl.DataFrame:
    """`frame` with exactly the declared columns and types.

    Timestamps must carry an offset or time zone; they become UTC microseconds. Raises SourceError naming the column.
    """
    _check_columns(frame, table, place)
    converted = []
    for name, kind in table.columns.items():
        try:
            converted.append(_convert(frame[name], kind))
        except pl.exceptions.PolarsError as error:
            raise SourceError(
                place,
                f"column {name!r} does not read as {kind}: {str(error).splitlines()[0]}",
                "mend the file, or the column's type in configs/sources/.",
            ) from error
    return pl.DataFrame(converted)


def with_event_day(frame: pl.DataFrame, table: SourceTable) -> pl.DataFrame:
    """`frame` with its `event_day`."""
    parts = [pl.col(column) for column in table.event_day]
    day = pl.date(*parts) if len(parts) == 3 else parts[0].cast(pl.Date)
    return frame.with_columns(day.alias(EVENT_DAY))


def _check_columns(frame: pl.DataFrame, table: SourceTable, place: str) -> None:
    missing = [name for name in table.columns if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in table.columns]
    if missing or unknown:
        raise SourceError(
            place,
            f"columns differ from those declared: missing {missing}, not declared {unknown}",
            "mend the file, or `columns` in configs/sources/.",
        )


def _convert(column: pl.Series, kind: ColumnType) -> pl.Series:
    if isinstance(column.dtype, pl.BaseExtension):
        column = column.ext.storage()  # PostgreSQL's numeric and jsonb arrive as text inside an extension type
    if column.dtype == pl.String:
        return _from_text(column, kind)
    if column.null_count() < len(column):
        _check_kind(column, kind)
    converted = column.cast(POLARS_TYPES[kind], strict=True)
    if kind in ("int64", "boolean", "date") and not converted.cast(column.dtype).eq_missing(column).all():
        raise pl.exceptions.ComputeError(f"values of {column.dtype} would be changed")
    return converted


def _from_text(column: pl.Series, kind: ColumnType) -> pl.Series:
    if kind == "timestamp":
        return column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=True)
    if kind == "date":
        return column.str.to_date("%Y-%m-%d", strict=True)
    if kind == "boolean":
        words = {"true": True, "false": False}
        return column.str.to_lowercase().replace_strict(words, return_dtype=pl.Boolean)
    return column.cast(POLARS_TYPES[kind], strict=True)


def _check_kind(column: pl.Series, kind: ColumnType) -> None:
    if kind in ("date", "timestamp") and not column.dtype.is_temporal():
        raise pl.exceptions.ComputeError(f"{column.dtype} values are no {kind}s")
    if kind == "timestamp" and getattr(column.dtype, "time_zone", None) is None:
        raise pl.exceptions.ComputeError("the timestamps carry no time zone")
