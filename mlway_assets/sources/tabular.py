"""Bytes of a CSV, Parquet or NDJSON file to a frame; a broken file is an error that names it."""

import csv
import io

import polars as pl

from mlway_assets.sources.reading import SourceError


def parse(content: bytes, file_format: str, place: str, null_values: tuple[str, ...]) -> pl.DataFrame:
    """The file's rows. Raises SourceError when it is truncated or malformed."""
    if file_format == "csv":
        return parse_csv(content, place, null_values)
    try:
        if file_format == "parquet":
            return pl.read_parquet(io.BytesIO(content))
        return pl.read_ndjson(io.BytesIO(content), infer_schema_length=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        # Damage inside a Parquet page makes Polars panic.
        raise _broken(place, error) from error


def parse_csv(content: bytes, place: str, null_values: tuple[str, ...]) -> pl.DataFrame:
    """All columns as text, so that types are the declaration's and not a guess."""
    try:
        _check_widths(content, place)
        return pl.read_csv(io.BytesIO(content), null_values=list(null_values), infer_schema=False)
    except (pl.exceptions.PolarsError, csv.Error) as error:
        raise _broken(place, error) from error


def _check_widths(content: bytes, place: str) -> None:
    # Polars fills a short line with nulls: a file cut in the middle of a line would pass unseen.
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", errors="replace", newline="")
    rows = csv.reader(text)
    width = len(next(rows, []))
    for row in rows:
        if len(row) != width and (row or width > 1):
            _refuse_width(place, rows.line_num, len(row), width)
    if not width:
        _refuse_width(place, 1, 0, 0)


def _refuse_width(place: str, line: int, fields: int, width: int) -> None:
    problem = f"is truncated or malformed: line {line} has {fields} of {width} fields"
    raise SourceError(place, problem, "deliver the file again.")


def _broken(place: str, error: Exception) -> SourceError:
    return SourceError(place, f"cannot be read: {str(error).splitlines()[0]}", "deliver the file again.")
