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
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _broken(place, error) from error


def parse_csv(content: bytes, place: str, null_values: tuple[str, ...]) -> pl.DataFrame:
    """All columns as text, so that types are the declaration's and not a guess."""
    _check_last_line(content, place)
    try:
        return pl.read_csv(io.BytesIO(content), null_values=list(null_values), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise _broken(place, error) from error


def _check_last_line(content: bytes, place: str) -> None:
    # Polars fills a short line with nulls: a file cut in the middle of its last line would pass unseen.
    lines = content.rstrip(b"\r\n")
    header = _fields(content[: content.find(b"\n")] if b"\n" in content else content)
    last = _fields(lines[lines.rfind(b"\n") + 1 :])
    if not lines or len(last) != len(header):
        raise SourceError(
            place,
            f"is truncated: its last line has {len(last) if lines else 0} of {len(header)} fields",
            "deliver the file again.",
        )


def _fields(line: bytes) -> list[str]:
    return next(csv.reader([line.decode("utf-8", errors="replace").strip("\r\n")]), [])


def _broken(place: str, error: Exception) -> SourceError:
    return SourceError(place, f"cannot be read: {str(error).splitlines()[0]}", "deliver the file again.")
