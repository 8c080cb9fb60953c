"""Days in another order, in which nothing ever changes: what is told of them is a false alarm."""

import polars as pl

from configs.products import ModelProduct
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.compute.population import LABEL_KNOWN_AT, in_order


def shuffled_days(rows: pl.DataFrame, product: ModelProduct, seed: int) -> pl.DataFrame:
    """The rows with their days in an order drawn by `seed`: all of a day's moments move together, by whole days.

    Features and labels stay as they are. What a day is, and `rows`, are as in Backtest.
    """
    request = product.population.request
    moments = [EVENT_TIMESTAMP, LABEL_KNOWN_AT, *(name for name, kind in request.items() if kind == "timestamp")]
    day = pl.col(product.population.event_time).dt.date()
    days = rows.select(day.unique().sort().alias("day"))["day"]
    moves = pl.DataFrame({"day": days, "moved_by": days.sample(fraction=1, shuffle=True, seed=seed) - days})
    moved = rows.with_columns(day.alias("day")).join(moves, on="day", how="left", maintain_order="left")
    return in_order(
        moved.with_columns(pl.col(name) + pl.col("moved_by") for name in moments).drop("day", "moved_by"), product
    )
