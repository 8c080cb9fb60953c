"""What every reader shares: its interface, its error, and the conversion to the declared column types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import polars as pl

from configs.errors import MlwayError
from configs.schema import ColumnType
from configs.sources import EVENT_DAY, FileTable, SourceTable
from feature_repo.column_types import POLARS_TYPES
from mlway_assets.sources.timestamps import naive_example, read_moments


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
    """`frame` with exactly the declared columns and types and, where the table is kept by day, its `event_day`.

    Timestamps follow the rule of `mlway_assets/sources/timestamps.py`. Raises SourceError naming the column.
    """
    _check_columns(frame, table, place)
    converted, days = [], {}
    for name, kind in table.columns.items():
        try:
            if kind == "timestamp":
                moments = read_moments(_with_zones(frame[name], table, place), table.naive_zone)
                converted.append(moments.utc.alias(name))
                days[name] = moments.days
            else:
                converted.append(_convert(frame[name], kind))
        except pl.exceptions.PolarsError as error:
            raise SourceError(
                place,
                f"column {name!r} does not read as {kind}: {str(error).splitlines()[0]}",
                "mend the file, or the column's type in configs/sources/.",
            ) from error
    return _with_event_day(pl.DataFrame(converted), days, table, place)


def _with_event_day(frame: pl.DataFrame, days: Mapping[str, pl.Series], table: SourceTable, place: str) -> pl.DataFrame:
    if not table.is_partitioned:
        return frame
    first = table.event_day[0]
    try:
        # A timestamp's day is its day before rounding up: the last nanosecond of a day is of that day.
        day = days.get(first, frame[first]) if len(table.event_day) == 1 else frame.select(pl.date(*table.event_day))
    except pl.exceptions.PolarsError as error:
        problem = f"{', '.join(table.event_day)} name a day that there is not: {str(error).splitlines()[0]}"
        raise SourceError(place, problem, "mend the file.") from error
    series = day if isinstance(day, pl.Series) else day.to_series()
    return frame.with_columns(series.alias(EVENT_DAY))


def _with_zones(column: pl.Series, table: SourceTable, place: str) -> pl.Series:
    """`column`, which says its time zone, or whose table does."""
    example = naive_example(column) if table.naive_zone is None else None
    if example is None:
        return column
    hint = (
        "write an offset into the file, or declare the table's zone: `naive_timestamps: Europe/Paris`."
        if isinstance(table, FileTable)
        else "give it a zone in a view: `at AT TIME ZONE 'Europe/Paris'` in PostgreSQL, a final Z in SQLite's text."
    )
    problem = f"column {column.name!r} does not read as timestamp: the timestamps carry no time zone, such as {example}"
    raise SourceError(place, problem, hint)


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
    if kind == "date" and column.null_count() < len(column) and not column.dtype.is_temporal():
        raise pl.exceptions.ComputeError(f"{column.dtype} values are no dates")
    converted = column.cast(POLARS_TYPES[kind], strict=True)
    if kind in ("int64", "boolean", "date") and not converted.cast(column.dtype).eq_missing(column).all():
        raise pl.exceptions.ComputeError(f"values of {column.dtype} would be changed")
    return converted


def _from_text(column: pl.Series, kind: ColumnType) -> pl.Series:
    if kind == "date":
        return column.str.to_date("%Y-%m-%d", strict=True)
    if kind == "boolean":
        words = {"true": True, "false": False}
        return column.str.to_lowercase().replace_strict(words, return_dtype=pl.Boolean)
    return column.cast(POLARS_TYPES[kind], strict=True)
