"""How good scores have been, day by day, now that labels are known, and whether that is worse than was promised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from configs.products import ModelProduct
from mlway_assets.compute.evaluation import NothingToRankError, OneClassError
from mlway_assets.compute.measurement import measure
from mlway_assets.compute.population import LABEL
from serving.scoring import Scores

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class DayQuality:
    """One day's metrics over the rows whose labels are known; none where those rows cannot tell good from bad."""

    day: date
    rows: int
    labelled: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """The mean of a metric over some days, its 95% interval, and how much worse that is than over the expected days.

    The days are the sample, for rows of one day share its weather: Student's interval of their mean, and Welch's test
    of whether it is worse than the expected days' (Welch 1947), of which `p_value` is the one-sided probability.
    """

    mean: float
    interval: tuple[float, float]
    expected_mean: float
    worsening: float
    """As a share of the expected mean; below zero it is better."""
    p_value: float
    days: int


def quality_by_day(product: ModelProduct, rows: pl.DataFrame) -> list[DayQuality]:
    """The quality of each `event_day`, in order.

    `rows` have `label`, null where it is not known, `score`, with an interval `lower` and `upper`, and in a ranking
    `query_key`. Raises RelevanceError.
    """
    found = []
    for (day,), part in sorted(rows.partition_by("event_day", as_dict=True).items()):
        labelled = part.drop_nulls(LABEL)
        found.append(DayQuality(day, len(part), len(labelled), _metrics(product, labelled)))
    return found


def _metrics(product: ModelProduct, labelled: pl.DataFrame) -> dict[str, float]:
    if not len(labelled):
        return {}
    lower, upper = (labelled[end].to_numpy() if product.interval else None for end in ("lower", "upper"))
    try:
        return measure(product, labelled, Scores(labelled["score"].to_numpy(), lower, upper))
    except (OneClassError, NothingToRankError):
        return {}  # a day on which all are late says nothing of who is late first


def compare_days(expected: Sequence[float], seen: Sequence[float], *, is_lower_better: bool) -> Comparison | None:
    """What `seen` days show beside `expected` ones; None with fewer than two of either, of which nothing is known."""
    from scipy import stats

    if min(len(expected), len(seen)) < 2:
        return None
    mean, expected_mean = float(np.mean(seen)), float(np.mean(expected))
    error = float(np.std(seen, ddof=1)) / np.sqrt(len(seen))
    reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(seen) - 1)) * error
    change = (mean - expected_mean) / abs(expected_mean) if expected_mean else 0.0
    worse = "greater" if is_lower_better else "less"
    if np.ptp(seen) == 0 and np.ptp(expected) == 0:  # no spread, no test
        p_value = float(change <= 0 if is_lower_better else change >= 0)
    else:
        p_value = float(stats.ttest_ind(seen, expected, equal_var=False, alternative=worse).pvalue)
    return Comparison(
        mean=mean,
        interval=(mean - reach, mean + reach),
        expected_mean=expected_mean,
        worsening=change if is_lower_better else -change,
        p_value=p_value,
        days=len(seen),
    )
