"""Feature freshness: how old the values were that a day's answers were made from, by the ages that endpoints log.

A value past its group's time to live is none to the model. The lake tells it from one that never was. What is kept is a
table of the lake, a row for each day and group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl

from configs.features import StaticFeatures, TableFeatures
from configs.monitoring import FeatureFreshness
from configs.products import ModelProduct
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.decision_table import AGE, REQUEST
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.feature_tables import LAYER as FEATURES
from mlway_assets.logged_decisions import DAY, logged_rows, of_models
from mlway_assets.resources import Platform

_COLUMNS: dict[str, type[pl.DataType]] = {
    DAY: pl.Date,
    "group": pl.String,
    "rows": pl.Int64,
    "missing_share": pl.Float64,
    "expired_share": pl.Float64,
    "median_seconds": pl.Float64,
    "p95_seconds": pl.Float64,
    "time_to_live_seconds": pl.Float64,
    "past": pl.String,
}
"""`past` names the limits that the group is past: expired, age. Without a time to live, ages say nothing: null."""


@dataclass(frozen=True)
class GroupFreshness:
    """The values of one group over some rows: how many there were, how old, and which of its limits it is past."""

    group: str
    rows: int
    missing: int
    """Rows without a value that is alive."""
    expired: int
    """Of those, the ones that had a value once."""
    median_seconds: float | None
    p95_seconds: float | None
    time_to_live: timedelta
    past: tuple[str, ...]

    @property
    def missing_share(self) -> float:
        """Of the rows, those without a value that is alive."""
        return self.missing / self.rows if self.rows else 0.0

    @property
    def expired_share(self) -> float:
        """Of the rows, those whose value has become too old."""
        return self.expired / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class DayFreshness:
    """The groups of a day's answers, those past a limit first."""

    day: date
    rows: int
    groups: tuple[GroupFreshness, ...]
    limits: FeatureFreshness

    @property
    def is_told(self) -> bool:
        """Whether there is enough to say anything of it."""
        return self.rows >= self.limits.minimum_rows

    @property
    def past(self) -> list[GroupFreshness]:
        """The groups past a limit."""
        return [each for each in self.groups if each.past]

    @property
    def is_within_limits(self) -> bool:
        """Whether no group is past a limit. Where there are too few rows none is: nothing is known."""
        return not self.is_told or not self.past


def freshness_table(product: str) -> str:
    """Name of the table of the freshness of a product's features."""
    return f"{product}_feature_freshness"


def watch_freshness(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[DayFreshness]:
    """The freshness of each of these days, which replaces what was known of them. Raises MissingTableError.

    Answers of the baseline, and those given while the online store was away, used no values.
    """
    found = [_day(product, platform, day) for day in days]
    platform.lake.replace_days(LAYER, freshness_table(product.name), _table(found), days)
    return found


def _day(product: ModelProduct, platform: Platform, day: date) -> DayFreshness:
    limits, logged = product.monitoring.feature_freshness, logged_rows(product, platform, [day])
    if logged is None:
        return DayFreshness(day, 0, (), limits)
    known = logged.collect_schema().names()
    groups = [group for group in platform.project.table_groups(product) if AGE + group.name in known]
    keys = dict.fromkeys(REQUEST + key for group in groups for key in group.join_keys)
    rows = of_models(logged).select("at", *keys, *(AGE + group.name for group in groups)).collect()
    if not len(rows):
        return DayFreshness(day, 0, (), limits)
    found = [_group(group, rows, platform, limits) for group in groups]
    return DayFreshness(
        day, len(rows), tuple(sorted(found, key=lambda each: (-len(each.past), -each.expired_share))), limits
    )


def _group(group: TableFeatures, rows: pl.DataFrame, platform: Platform, limits: FeatureFreshness) -> GroupFreshness:
    ages = rows[AGE + group.name].drop_nulls()
    is_timeless = isinstance(group, StaticFeatures)
    median, oldest = (None, None) if is_timeless else (_quantile(ages, 0.5), _quantile(ages, 0.95))
    missing = rows.filter(pl.col(AGE + group.name).is_null())
    expired = 0 if is_timeless else _once_known(group, missing, platform)
    allowed = limits.maximum_ages.get(group.name)
    is_past = {
        "expired": expired > limits.maximum_expired_share * len(rows),
        "age": allowed is not None and oldest is not None and oldest > allowed.total_seconds(),
    }
    past = tuple(name for name, past in is_past.items() if past)
    return GroupFreshness(group.name, len(rows), len(missing), expired, median, oldest, group.time_to_live, past)


def _quantile(ages: pl.Series, share: float) -> float | None:
    value = ages.quantile(share, "nearest")
    return None if value is None else float(value)


def _once_known(group: TableFeatures, rows: pl.DataFrame, platform: Platform) -> int:
    """How many of the rows are about something of which the lake knew a value by then."""
    keys = list(group.join_keys)
    asked = rows.select("at", *(pl.col(REQUEST + key).alias(key) for key in keys)).drop_nulls(keys)
    if not len(asked):
        return 0
    values = platform.lake.scan(FEATURES, group.name).select(*keys, EVENT_TIMESTAMP)
    values = values.filter(pl.col(EVENT_TIMESTAMP) <= asked["at"].max())
    first: Any = values.join(asked.lazy(), on=keys, how="semi").group_by(keys).agg(pl.col(EVENT_TIMESTAMP).min())
    known = asked.lazy().join(first, on=keys).filter(pl.col(EVENT_TIMESTAMP) <= pl.col("at"))
    return int(known.select(pl.len()).collect().item())


def _table(found: Sequence[DayFreshness]) -> pl.DataFrame:
    rows = [
        {
            DAY: report.day,
            "group": each.group,
            "rows": each.rows,
            "missing_share": each.missing_share,
            "expired_share": each.expired_share,
            "median_seconds": each.median_seconds,
            "p95_seconds": each.p95_seconds,
            "time_to_live_seconds": each.time_to_live.total_seconds() or None,
            "past": ",".join(each.past),
        }
        for report in found
        for each in report.groups
    ]
    return pl.DataFrame(rows, schema=_COLUMNS)
