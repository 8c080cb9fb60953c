"""The one rule for timestamps: UTC, in microseconds.

A moment between two microseconds is moved so that nothing is seen before it was known: a value's moment up, the moment
of a question down.
"""

from typing import Literal

import polars as pl

from configs.errors import MlwayError


class TimestampError(MlwayError):
    """A column does not hold moments."""


UTC_MICROSECONDS = pl.Datetime("us", "UTC")


def as_utc(column: str, kind: pl.DataType, rounding: Literal["up", "down"] = "up") -> pl.Expr:
    """`column` in UTC microseconds; a date is its midnight, a timestamp without a zone is UTC already.

    Raises TimestampError for anything else: a number does not say of what.
    """
    if not isinstance(kind, pl.Datetime | pl.Date):
        raise TimestampError(
            f"Column {column!r} is {kind}, not a timestamp.\nHint: parse it where the table is written."
        )
    if kind == UTC_MICROSECONDS:
        # As it is, so that a condition on it can be held against a file's own statistics.
        return pl.col(column)
    if isinstance(kind, pl.Datetime) and kind.time_unit == "ns":
        nanoseconds = pl.col(column).cast(pl.Int64) + (999 if rounding == "up" else 0)
        return nanoseconds.floordiv(1_000).cast(UTC_MICROSECONDS)
    zone = getattr(kind, "time_zone", None)
    if zone is None:
        return pl.col(column).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.col(column).cast(pl.Datetime("us", zone)).dt.convert_time_zone("UTC")
