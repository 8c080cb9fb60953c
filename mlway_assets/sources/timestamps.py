"""The one rule by which timestamps of source data become UTC microseconds.

With an offset or a time zone: converted. Without: read in the table's declared zone, the later of two moments where
the clocks went back; refused where no zone is declared (see `naive_example`) or the clocks skipped that time.
Finer than a microsecond: rounded up, so that nothing is seen before it was known.
"""

from dataclasses import dataclass

import polars as pl

from mlway_assets.compute.times import UTC_MICROSECONDS, finer_digits, moments_in_text, rounded_up

_NAIVE_TEXT = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?$"


@dataclass(frozen=True)
class Moments:
    """A column of timestamps: the moments, and the day of each: in UTC, or as it says when it says no zone."""

    utc: pl.Series
    days: pl.Series


def naive_example(column: pl.Series) -> object | None:
    """A timestamp of the column that says no time zone, if there is one."""
    if column.dtype == pl.String:
        return column.filter(column.str.contains(_NAIVE_TEXT)).first()
    is_naive = column.dtype == pl.Date or (isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is None)
    return column.drop_nulls().first() if is_naive else None


def read_moments(column: pl.Series, naive_zone: str | None) -> Moments:
    """The moments of a column of text or timestamps. Raises PolarsError for what is neither."""
    if column.dtype == pl.String:
        return _from_text(column, naive_zone)
    if column.null_count() == len(column):
        return Moments(column.cast(UTC_MICROSECONDS), column.cast(pl.Date))
    if not isinstance(column.dtype, pl.Datetime):
        raise pl.exceptions.ComputeError(f"{column.dtype} values are no timestamps")
    if column.dtype.time_zone is None:
        return _localized(rounded_up(column), column.dt.date(), naive_zone)
    utc = column.dt.convert_time_zone("UTC")
    return Moments(rounded_up(utc), utc.dt.date())


def _from_text(column: pl.Series, naive_zone: str | None) -> Moments:
    is_naive = (column.str.contains(_NAIVE_TEXT) & (naive_zone is not None)).fill_null(value=False)
    aware = column.set(is_naive, None)
    utc = moments_in_text(aware)
    read = Moments(utc + finer_digits(aware), utc.dt.date())
    if not is_naive.any():
        return read
    text = column.set(~is_naive, None).str.replace(" ", "T", literal=True).str.replace("^(.{16})$", "$1:00")
    wall = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=True)
    local = _localized(wall + finer_digits(text), wall.dt.date(), naive_zone)
    return Moments(read.utc.zip_with(~is_naive, local.utc), read.days.zip_with(~is_naive, local.days))


def _localized(wall: pl.Series, days: pl.Series, zone: str | None) -> Moments:
    if zone is None:
        raise pl.exceptions.ComputeError("the timestamps carry no time zone")
    local = wall.dt.replace_time_zone(zone, ambiguous="latest", non_existent="raise")
    return Moments(local.dt.convert_time_zone("UTC"), days)
