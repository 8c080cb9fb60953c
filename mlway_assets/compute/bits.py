"""Equality to the last bit, which `==` does not tell: 0.0 and -0.0 differ, a NaN equals itself, types must agree."""

import numpy as np
import polars as pl


def same_bits(first: pl.Series, second: pl.Series) -> pl.Series:
    """For each row whether both hold the same bits, or both nothing. Of two types no row is the same."""
    if first.dtype != second.dtype:
        return pl.repeat(value=False, n=len(first), eager=True)
    return _bits(first).eq_missing(_bits(second))


def _bits(column: pl.Series) -> pl.Series:
    if not column.dtype.is_float():
        return column
    numbers = np.ascontiguousarray(column.fill_null(0.0).to_numpy())
    bits = pl.Series(numbers.view(np.dtype(f"u{numbers.itemsize}")))
    return bits.zip_with(column.is_not_null(), pl.Series([None], dtype=bits.dtype))
