"""The rows a product predicts or learns from, with the moment as of which their features are taken."""

from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from configs.products import ModelProduct
from configs.splits import Part
from feature_repo.expressions import parse
from feature_repo.windows import EVENT_TIMESTAMP

LABEL = "label"
LABEL_KNOWN_AT = "label_known_at"
QUERY = "query_key"
"""Which rows are put in order together: what they agree in, as JSON. A ranking's alone."""


def labelled_rows(product: ModelProduct, table: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with a label, up to the end of the test part. Where that part is judged, its labels must be known by then.

    Columns: the request's fields, `event_timestamp` (see `asked_at`), in a ranking `query_key`, `label`,
    `label_known_at`.
    """
    population, label, split = product.population, product.label, product.training.split
    time, until = pl.col(population.event_time), split.test_until
    wanted = [time < until]
    wanted += [] if split.train_from is None else [time >= split.train_from]
    wanted += [pl.col(label.known_at) <= until] if split.needs_known_labels("test") else []
    return (
        _with_moments(product, table)
        .filter(wanted)
        .select(
            *population.request,
            EVENT_TIMESTAMP,
            *query_columns(product),
            parse(label.expression).alias(LABEL),
            pl.col(label.known_at).alias(LABEL_KNOWN_AT),
        )
        .drop_nulls([LABEL, LABEL_KNOWN_AT])
    )


def known_labels(product: ModelProduct, table: pl.LazyFrame, now: datetime) -> pl.LazyFrame:
    """The request's fields of every row, each set of them once, and `label` where it is known by now.

    Rows that are alike in every field cannot be told apart: they have a label where all have the same.
    """
    request = list(product.population.request)
    return known_outcomes(product, table, now, request).select(*request, LABEL)


def known_outcomes(product: ModelProduct, table: pl.LazyFrame, now: datetime, fields: Sequence[str]) -> pl.LazyFrame:
    """As `known_labels` by some of the request's fields, with `label_known_at` and in a ranking `query_key`."""
    label = product.label
    is_known = pl.col(label.known_at) <= pl.lit(now, pl.Datetime("us", "UTC"))
    rows = _with_queries(product, table).select(
        *fields,
        *query_columns(product),
        pl.col(label.known_at).alias(LABEL_KNOWN_AT),
        pl.when(is_known).then(parse(label.expression)).alias(LABEL),
    )
    alike = rows.group_by(fields).agg(
        *(pl.col(name).first() for name in query_columns(product)),
        pl.col(LABEL_KNOWN_AT).min(),
        pl.col(LABEL).first(),
        pl.col(LABEL).n_unique().alias("labels"),
    )
    return alike.with_columns(pl.when(pl.col("labels") == 1).then(LABEL).alias(LABEL)).drop("labels")


def rows_to_score(product: ModelProduct, table: pl.LazyFrame, now: datetime) -> pl.LazyFrame:
    """Every row of `table` as a request carries it, with features as asked for, or as of now if that is sooner."""
    return _with_moments(product, table).select(
        "event_day",
        *product.population.request,
        *query_columns(product),
        pl.min_horizontal(EVENT_TIMESTAMP, pl.lit(now, pl.Datetime("us", "UTC"))).alias(EVENT_TIMESTAMP),
    )


def query_columns(product: ModelProduct) -> list[str]:
    """The column that says which query a row belongs to, where the product ranks."""
    return [] if product.ranking is None else [QUERY]


def asked_at(product: ModelProduct) -> pl.Expr:
    """The moment as of which a row's features are taken: the horizon before its event.

    Rows of one query are asked about at once, so all of theirs are as of the horizon before the first of them: taken
    each at its own time, the later ones would know what nobody knew when they were put in order.
    """
    event = pl.col(product.population.event_time)
    return (event if product.ranking is None else event.min().over(QUERY)) - product.population.horizon


def query_over_days(product: ModelProduct, table: pl.LazyFrame) -> tuple[str, list[date]] | None:
    """A query with rows of several days, and these days; None where there is none.

    Such a query would be put in order in one way for training, and day by day, so in parts, by batch predictions.
    """
    if product.ranking is None:
        return None
    days = _with_moments(product, table).group_by(QUERY).agg(pl.col("event_day").unique().sort())
    found = days.filter(pl.col("event_day").list.len() > 1).sort(QUERY).head(1).collect()
    return found.row(0) if len(found) else None


def _with_moments(product: ModelProduct, table: pl.LazyFrame) -> pl.LazyFrame:
    return _with_queries(product, table).with_columns(asked_at(product).alias(EVENT_TIMESTAMP))


def _with_queries(product: ModelProduct, table: pl.LazyFrame) -> pl.LazyFrame:
    if product.ranking is None:
        return table
    parts = [parse(part).alias(f"part_{number}") for number, part in enumerate(product.ranking.groups)]
    return table.with_columns(pl.struct(parts).struct.json_encode().alias(QUERY))


def in_order(frame: pl.DataFrame, product: ModelProduct) -> pl.DataFrame:
    """Labelled rows in their one order: by moment, then by the request's fields, then by label.

    A lake keeps no order of rows, and bagging and hashes depend on it: the same rows must make the same model. Rows
    that agree in all of these have the same features too, so that features need not be compared.
    """
    return frame.sort(EVENT_TIMESTAMP, *product.population.request, LABEL, LABEL_KNOWN_AT)


def part_of(frame: pl.DataFrame, product: ModelProduct, part: Part) -> pl.DataFrame:
    """The rows of one part of the split, but for those whose labels were not known when it ended and had to be."""
    split = product.training.split
    start, end = split.bounds(part)
    time = pl.col(product.population.event_time)
    inside = (time < end) if start is None else (time >= start) & (time < end)
    return frame.filter(inside & (pl.col(LABEL_KNOWN_AT) <= end) if split.needs_known_labels(part) else inside)
