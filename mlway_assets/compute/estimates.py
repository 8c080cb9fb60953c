"""What each row adds to a metric. The mean of what rows add is the metric, and their spread says how sure it is.

So one pass gives the metrics of every day, or of every slice, with their standard errors. The metrics are those of
evaluation.py, as far as they are such means; `bias` is the mean of score minus label. Of the area under the curve, rows
add their placements (DeLong, DeLong and Clarke-Pearson, Biometrics 1988); of a ranking's metric, queries add theirs.
`calibration_slope` is that of the line through labels over scores: 1 where probabilities are rates, less where they are
too extreme, more where they are too timid; its errors are those of the heteroscedastic case (White, Econometrica 1980).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from configs.products import ModelProduct
from mlway_assets.compute.evaluation import query_ndcg
from mlway_assets.compute.measurement import LOWER, SCORE, UPPER, targets
from mlway_assets.compute.population import QUERY

DAY = "event_day"
_TARGET, _PLACEMENT, _AREA, _ROOT = "target", "placement", "area", "root"
_EPSILON = float(np.finfo(np.float64).eps)
_REACH = 1.959963984540054
"""Standard errors on each side of a 95% interval."""


@dataclass(frozen=True)
class Estimate:
    """A metric, its standard error, which is unknown of a single row or day, and how many rows or queries it is of."""

    value: float
    error: float | None
    units: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval."""
        return None if self.error is None else (self.value - _REACH * self.error, self.value + _REACH * self.error)


Estimates = Mapping[str, Estimate]
"""By the metric's name."""


def estimates_by_day(product: ModelProduct, rows: pl.DataFrame) -> dict[Any, Estimates]:
    """The estimates of each `event_day`, whose rows count as drawn apart. Rows have `label`, `score`; no label is null.

    Raises RelevanceError.
    """
    added, metrics = _contributions(product, rows, [DAY])
    summed = added.group_by(DAY).agg(
        pl.len().alias("units"),
        *(pl.col(name).mean().alias(name) for name in metrics),
        *((pl.col(name).std() / pl.len().sqrt()).alias(_error(name)) for name in metrics),
    )
    return {row[DAY]: _estimates(row, metrics) for row in summed.iter_rows(named=True)}


def estimates_by_value(product: ModelProduct, rows: pl.DataFrame, column: str | None = None) -> dict[str, Estimates]:
    """The estimates of each value of a column, or under `""` of all rows. Rows of one day count as one draw.

    Rows have `event_day` beside what `estimates_by_day` wants. Raises RelevanceError.
    """
    value = pl.lit("") if column is None else pl.col(column).cast(pl.String).fill_null("null")
    added, metrics = _contributions(product, rows.with_columns(value.alias("value")), ["value"])
    means = {name: pl.col(name).mean().over("value") for name in metrics}
    days = (
        added.with_columns((pl.col(name) - mean).alias(_error(name)) for name, mean in means.items())
        .group_by("value", DAY)
        .agg(pl.len().alias("units"), *map(_sum, [*metrics, *map(_error, metrics)]))
    )
    count = pl.len()
    summed = days.group_by("value").agg(
        pl.col("units").sum(),
        *((_sum(name) / pl.col("units").sum()).alias(name) for name in metrics),
        *(
            pl.when(count > 1)
            .then(((pl.col(_error(name)) ** 2).sum() * count / (count - 1)).sqrt() / pl.col("units").sum())
            .alias(_error(name))
            for name in metrics
        ),
    )
    return {row["value"]: _estimates(row, metrics) for row in summed.iter_rows(named=True)}


def _contributions(product: ModelProduct, rows: pl.DataFrame, over: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
    """What each row or query adds, beside `event_day` and `over`, within which its metrics are; and their names."""
    kept = list(dict.fromkeys([DAY, *over]))
    rows = rows.with_columns(pl.Series(_TARGET, targets(product, rows), pl.Float64))
    if product.ranking is not None and product.gate.k is not None:
        return _of_queries(rows, kept, over, product.gate.k), [f"ndcg_at_{product.gate.k}"]
    rows, added = _of_values(rows, over) if product.task == "regression" else _of_probabilities(rows, over)
    return rows.select(*kept, *(plan.alias(name) for name, plan in added.items())), list(added)


def _of_probabilities(rows: pl.DataFrame, over: Sequence[str]) -> tuple[pl.DataFrame, dict[str, pl.Expr]]:
    label, score = pl.col(_TARGET), pl.col(SCORE)
    likely = score.clip(_EPSILON, 1 - _EPSILON)
    return _with_placements(rows, over), {
        "roc_auc": pl.col(_AREA) + pl.col(_PLACEMENT),
        "log_loss": -pl.when(label > 0).then(likely.log()).otherwise((1 - likely).log()),
        "brier": (score - label) ** 2,
        "bias": score - label,
        "calibration_slope": _slope(score, label, over),
    }


def _slope(score: pl.Expr, label: pl.Expr, over: Sequence[str]) -> pl.Expr:
    """The slope of the least squares line of labels over scores, and each row's influence on it."""
    apart = score - score.mean().over(over)
    spread = (apart**2).mean().over(over)
    slope = (apart * label).mean().over(over) / spread
    left = label - label.mean().over(over) - slope * apart
    # The spread of equal scores is not always zero: their mean is rounded.
    return pl.when(score.max().over(over) > score.min().over(over)).then(slope + apart * left / spread)


def _with_placements(rows: pl.DataFrame, over: Sequence[str]) -> pl.DataFrame:
    """The area, and by how much a row's placement among those of the other class is off it, as a share of all rows."""
    label, score = pl.col(_TARGET), pl.col(SCORE)
    counted = rows.with_columns(
        pl.len().over(over).alias("all"),
        label.sum().over(over).alias("positive"),
        # How many of the other class score less; half of those that score the same.
        (score.rank().over(over) - score.rank().over([*over, _TARGET])).alias("below"),
    ).with_columns(pl.when(label > 0).then(pl.col("all") - pl.col("positive")).otherwise("positive").alias("others"))
    placed = counted.with_columns(
        pl.when(pl.col("others") > 0)
        .then(pl.when(label > 0).then(pl.col("below")).otherwise(pl.col("others") - pl.col("below")) / pl.col("others"))
        .alias(_PLACEMENT)
    ).with_columns((pl.col(_PLACEMENT).filter(label > 0).mean().over(over)).alias(_AREA))
    share = pl.col("all") / (pl.col("all") - pl.col("others"))
    return placed.with_columns(((pl.col(_PLACEMENT) - pl.col(_AREA)) * share).alias(_PLACEMENT))


def _of_values(rows: pl.DataFrame, over: Sequence[str]) -> tuple[pl.DataFrame, dict[str, pl.Expr]]:
    error, root = pl.col(SCORE) - pl.col(_TARGET), pl.col(_ROOT)
    rows = rows.with_columns((error**2).mean().over(over).sqrt().alias(_ROOT))
    found = {
        "mae": error.abs(),
        "rmse": pl.when(root > 0).then(root + (error**2 - root**2) / (2 * root)).otherwise(0.0),
        "bias": error,
    }
    if LOWER in rows.columns:
        found["coverage"] = pl.col(_TARGET).is_between(pl.col(LOWER), pl.col(UPPER)).cast(pl.Float64)
    return rows, found


def _of_queries(rows: pl.DataFrame, kept: Sequence[str], over: Sequence[str], k: int) -> pl.DataFrame:
    numbered = rows.with_row_index("query").with_columns(pl.col("query").first().over([QUERY, *over]))
    found = query_ndcg(numbered["query"], numbered[_TARGET].to_numpy(), numbered[SCORE].to_numpy(), k)
    about = numbered.unique("query", keep="first").select("query", *kept)
    return found.join(about, on="query", validate="1:1").select(*kept, pl.col("ndcg").alias(f"ndcg_at_{k}"))


def _sum(name: str) -> pl.Expr:
    """The sum, of which nothing is known where a part is not."""
    return pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name)


def _error(name: str) -> str:
    return f"error of {name}"


def _estimates(row: Mapping[str, Any], metrics: Sequence[str]) -> Estimates:
    return {
        name: Estimate(row[name], row[_error(name)], row["units"])
        for name in metrics
        if row[name] is not None and np.isfinite(row[name])
    }
