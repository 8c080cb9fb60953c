"""The declared answer before the first model exists, which candidates are compared with too."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from configs.products import ModelProduct
from serving.scoring import Scores


def baseline_scores(product: ModelProduct, rows: pl.DataFrame) -> Scores:
    """The baseline for each row, which holds the request's fields.

    One value, with its interval where the product has one; in a ranking that says so, an order by a field.
    """
    baseline, count = product.baseline, len(rows)
    if baseline.order_by is not None:
        return Scores(_smallest_first(rows[baseline.order_by]))
    if baseline.lower is None or baseline.upper is None:
        return Scores(np.full(count, baseline.score))
    return Scores(np.full(count, baseline.score), np.full(count, baseline.lower), np.full(count, baseline.upper))


def _smallest_first(values: pl.Series) -> NDArray[np.float64]:
    """Higher for smaller values; lowest for what has none. Timestamps count in seconds, which floats hold exactly."""
    numbers = values.dt.epoch("s") if values.dtype.is_temporal() else values
    scores = -numbers.cast(pl.Float64).fill_nan(None)
    lowest = scores.min()
    return scores.fill_null(float(lowest) - 1 if isinstance(lowest, float) else 0.0).to_numpy()
