"""Values of one type to values of a declared type, unchanged or not at all."""

import polars as pl

from configs.schema import ColumnType
from feature_repo.column_types import POLARS_TYPES
from mlway_assets.compute.times import finer_digits, moments_in_text, rounded_up

_TRUTH = {"true": True, "false": False}


def can_become(stored: pl.DataType, kind: ColumnType) -> bool:
    """Whether values of this type can be of the declared one at all. A date is no timestamp: it says no time zone."""
    if isinstance(stored, pl.String | pl.Null) or stored == POLARS_TYPES[kind]:
        return True
    if kind == "string":
        return not stored.is_nested()
    if kind == "timestamp":
        return isinstance(stored, pl.Datetime) and stored.time_zone is not None
    return kind != "date" and (stored.is_numeric() or isinstance(stored, pl.Boolean))


def convert(values: pl.Series, kind: ColumnType) -> pl.Series:
    """`values` as the declared type, null where one would be changed by it; a decimal becomes the nearest float64.

    Of text, a date is ISO 8601, a timestamp too, with an offset, a truth value is `true` or `false`. A float64 is a
    finite number. Nanoseconds are rounded up to microseconds.
    """
    if isinstance(values.dtype, pl.String):
        return _of_text(values, kind)
    if kind == "timestamp":
        return values.cast(POLARS_TYPES[kind]) if values.dtype == pl.Null else _moments(values)
    converted = values.cast(POLARS_TYPES[kind], strict=False)
    if kind == "float64":
        converted = _finite(converted)
    is_rounded = kind == "float64" and values.dtype.is_decimal()
    if kind == "string" or is_rounded or values.dtype in (converted.dtype, pl.Null):
        return converted
    return converted.set(converted.cast(values.dtype, strict=False).ne_missing(values), None)


def _of_text(text: pl.Series, kind: ColumnType) -> pl.Series:
    if kind == "timestamp":
        return moments_in_text(text, strict=False) + finer_digits(text)
    if kind == "date":
        return text.str.to_date("%Y-%m-%d", strict=False)
    if kind == "boolean":
        return text.str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
    converted = text.cast(POLARS_TYPES[kind], strict=False)
    return _finite(converted) if kind == "float64" else converted


def _moments(values: pl.Series) -> pl.Series:
    return rounded_up(values.dt.convert_time_zone("UTC"))


def _finite(numbers: pl.Series) -> pl.Series:
    return numbers.set(~numbers.is_finite().fill_null(value=True), None)
