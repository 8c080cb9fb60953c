"""Functions that tests name by import path."""

import polars as pl


def half_of_value() -> pl.Expr:
    return pl.col("value") / 2


def seven() -> int:
    return 7
