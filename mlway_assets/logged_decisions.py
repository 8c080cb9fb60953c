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


def hides_request() -> pl.Expr:
    """Whether the log leaves out what a row was about, some of it at least."""
    return pl.col("hidden").str.json_path_match("$.fields[0]").is_not_null()


def sample_decisions(rows: pl.LazyFrame, most: int) -> pl.LazyFrame:
    """Of each day whole decisions, the same ones each time, with about so many rows at most.

    An id's last digits are drawn by chance (serving/decision_log.py), so that they tell whether it is in the sample.
    """
    chance = pl.col("decision_id").str.slice(-8).str.to_integer(base=16, dtype=pl.Int64) / 2**32
    return rows.filter(chance < most / pl.len().over(DAY))


def sample_rows(rows: pl.LazyFrame, most: int, seed: int) -> pl.DataFrame:
    """At most so many of the rows, drawn by chance; the same ones each time."""
    keys = rows.select(ROW_KEY).collect().sort(ROW_KEY)
    if len(keys) > most:
        keys = keys.sample(most, seed=seed)
    return rows.join(keys.lazy(), on=ROW_KEY, how="semi").collect().sort(ROW_KEY)
