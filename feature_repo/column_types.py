"""The one translation of declared column types to Polars. A timestamp is UTC with microseconds, everywhere."""

from collections.abc import Mapping

import polars as pl

POLARS_TYPES: Mapping[str, pl.DataType] = {
    "string": pl.String(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "timestamp": pl.Datetime("us", "UTC"),
}
