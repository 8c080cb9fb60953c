"""What the values of features look like: counts, shares and quantiles, in one pass."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl
from pydantic import AwareDatetime

from configs.schema import Frozen
from feature_repo.windows import EVENT_TIMESTAMP

QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}


class FeatureStatistics(Frozen):
    """One feature. A NaN counts as null. What does not apply to the type, or to no values at all, is None.

    Numbers have mean to p95; booleans a mean, the share that is true; text has distinct to its share.
    """

    null_share: float | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    p05: float | None = None
    p50: float | None = None
    p95: float | None = None
    distinct: int | None = None
    most_frequent: str | None = None
    most_frequent_share: float | None = None


class GroupStatistics(Frozen):
    """The features of one table of values, over its rows with an event timestamp up to `as_of`.

    A table of values has one row for each entity and moment at which a value changed, and each counts once: these are
    the values that were ever current, not weighted by how long they were, nor by how often they were asked for.
    """

    as_of: AwareDatetime
    newest_event: AwareDatetime | None = None
    """When the newest row of the source became known. A value may be newer: one changes as a row leaves its window."""
    rows: int
    entities: int | None = None
    features: dict[str, FeatureStatistics]


def feature_statistics(
    values: pl.DataFrame, types: Mapping[str, str], as_of: datetime, keys: Sequence[str] = ()
) -> GroupStatistics:
    """Statistics of the columns `types` (name to declared type) of `values`, up to `as_of`.

    `entities` counts the distinct combinations of `keys`. Of several most frequent texts the first in order is named.
    """
    known = values.lazy().filter(pl.col(EVENT_TIMESTAMP) <= as_of)
    expressions = [pl.len().alias("rows")]
    if keys:
        expressions.append(pl.struct(keys).n_unique().alias("entities"))
    for name, kind in types.items():
        expressions += [e.alias(f"{name}.{word}") for word, e in _expressions(pl.col(name), kind).items()]
    found = known.select(expressions).collect(engine="in-memory").row(0, named=True)
    features = {
        name: FeatureStatistics(**{word: found[f"{name}.{word}"] for word in _expressions(pl.col(name), kind)})
        for name, kind in types.items()
    }
    return GroupStatistics(as_of=as_of, rows=found["rows"], entities=found.get("entities"), features=features)


def _expressions(column: pl.Expr, kind: str) -> dict[str, pl.Expr]:
    if kind == "float64":
        column = column.fill_nan(None)
    # Of no rows at all the share of nulls is unknown, not NaN.
    common = {"null_share": column.is_null().mean()}
    if kind == "string":
        most = column.drop_nulls().unique_counts().max()
        return common | {
            "distinct": column.drop_nulls().n_unique(),
            "most_frequent": column.drop_nulls().mode().min(),
            "most_frequent_share": most / column.count(),
        }
    if kind == "boolean":
        return common | {"mean": column.mean()}
    return common | {
        "mean": column.mean(),
        "standard_deviation": column.std(),
        "minimum": column.min(),
        "maximum": column.max(),
        **{name: column.quantile(share, "nearest") for name, share in QUANTILES.items()},
    }
