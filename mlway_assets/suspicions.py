"""What else to look at where monitoring found a breach: which features had drifted by then, and where pictures are."""

from datetime import date

import polars as pl

from configs.products import ModelProduct
from mlway_assets.compute.drift_judgement import DAY
from mlway_assets.drift_monitoring import LAYER, input_drift_table
from mlway_assets.resources import Platform

_MOST_FEATURES = 5


def drifted_features(product: ModelProduct, platform: Platform, day: date) -> str:
    """The features past their limits on the newest day, up to this one, whose input drift is known; most first."""
    table = input_drift_table(product.name)
    if not platform.lake.exists(LAYER, table):
        return "How its features have drifted is not known."
    enough = pl.col("rows") >= product.monitoring.input_drift.minimum_rows
    known = platform.lake.scan(LAYER, table).filter((pl.col(DAY) <= day) & enough)
    newest = known.filter(pl.col(DAY) == pl.col(DAY).max()).collect()
    if not len(newest):
        return "How its features have drifted is not known."
    excess = pl.col("psi") / pl.col("psi_limit")
    past = newest.filter(pl.col("past") != "").sort(excess, descending=True, nulls_last=True)
    if not len(past):
        return f"No feature had drifted by {newest[DAY][0]}."
    named = ", ".join(past["column"].head(_MOST_FEATURES))
    more = f" and {len(past) - _MOST_FEATURES} others" if len(past) > _MOST_FEATURES else ""
    return f"Features that had drifted by {newest[DAY][0]}: {named}{more}."


def report_command(product: ModelProduct, _: Platform, day: date) -> str:
    """How Evidently's page of that day is drawn."""
    return f"Pictures of every feature: `mlway materialize report --product {product.name} --from {day} --to {day}`."
