"""The rows a product predicts or learns from, with the moment as of which their features are taken."""

from datetime import datetime
from typing import Literal

import polars as pl

from configs.products import ModelProduct
from feature_repo.expressions import parse
from feature_repo.windows import EVENT_TIMESTAMP

LABEL = "label"
LABEL_KNOWN_AT = "label_known_at"


def labelled_rows(product: ModelProduct, table: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with a label, up to the end of the test part.

    Columns: the request's fields, `event_timestamp` (the event less the horizon), `label`, `label_known_at`.
    """
    population, label = product.population, product.label
    return (
        table.filter(pl.col(population.event_time) < product.training.split.test_until)
        .select(
            *population.request,
            (pl.col(population.event_time) - population.horizon).alias(EVENT_TIMESTAMP),
            parse(label.expression).alias(LABEL),
            pl.col(label.known_at).alias(LABEL_KNOWN_AT),
        )
        .drop_nulls([LABEL, LABEL_KNOWN_AT])
    )


def rows_to_score(product: ModelProduct, table: pl.LazyFrame, now: datetime) -> pl.LazyFrame:
    """Every row of `table` as a request carries it, with features as of the horizon, or as of now if that is sooner."""
    population = product.population
    horizon = pl.col(population.event_time) - population.horizon
    return table.select(
        "event_day",
        *population.request,
        pl.min_horizontal(horizon, pl.lit(now, pl.Datetime("us", "UTC"))).alias(EVENT_TIMESTAMP),
    )


def in_order(frame: pl.DataFrame, product: ModelProduct) -> pl.DataFrame:
    """Labelled rows in their one order: by moment, then by the request's fields, then by label.

    A lake keeps no order of rows, and bagging and hashes depend on it: the same rows must make the same model. Rows
    that agree in all of these have the same features too, so that features need not be compared.
    """
    return frame.sort(EVENT_TIMESTAMP, *product.population.request, LABEL, LABEL_KNOWN_AT)


def part_of(frame: pl.DataFrame, product: ModelProduct, part: Literal["train", "validate", "test"]) -> pl.DataFrame:
    """The rows of one part of the split. Outside the test part a label must have been known when the part ended."""
    start, end = product.training.split.bounds(part)
    time = pl.col(product.population.event_time)
    inside = (time < end) if start is None else (time >= start) & (time < end)
    return frame.filter(inside if part == "test" else inside & (pl.col(LABEL_KNOWN_AT) <= end))
