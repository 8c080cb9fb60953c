"""The rows that endpoints answered on some days of the platform's clock, from the lake's table of decisions."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from configs.products import ModelProduct
from mlway_assets.decision_table import LAYER, table_name
from mlway_assets.resources import Platform

DAY = "event_day"
ROW_KEY = ["decision_id", "row"]


def logged_rows(product: ModelProduct, platform: Platform, days: Sequence[date]) -> pl.LazyFrame | None:
    """The rows of these days; None of a product that was never asked.

    A decision belongs to the day of its features, so of the platform's clock, which may be replayed.
    """
    if not platform.lake.exists(LAYER, table_name(product.name)):
        return None
    return platform.lake.scan_days(LAYER, table_name(product.name), days)


def of_models(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows that a model answered with the online store at hand."""
    return rows.filter(pl.col("model_digest").is_not_null() & (pl.col("degraded").list.len() == 0))


def sample_rows(rows: pl.LazyFrame, most: int, seed: int) -> pl.DataFrame:
    """At most so many of the rows, drawn by chance; the same ones each time."""
    keys = rows.select(ROW_KEY).collect().sort(ROW_KEY)
    if len(keys) > most:
        keys = keys.sample(most, seed=seed)
    return rows.join(keys.lazy(), on=ROW_KEY, how="semi").collect().sort(ROW_KEY)
