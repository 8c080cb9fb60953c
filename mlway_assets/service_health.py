"""Service health: how many requests a day had, and how they were answered, by the decision log.

Requests that were answered with an error made no decision: those of the endpoint's own are counted in its request log,
where it runs on this machine. What is kept is a table of the lake, a row for each day, hour and model version.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import orjson
import polars as pl

from configs.monitoring import ServiceHealth
from configs.products import ModelProduct
from feature_repo.timestamps import UTC_MICROSECONDS
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.logged_decisions import DAY, logged_rows
from mlway_assets.resources import Platform
from serving.logs import request_log_file

BASELINE = "baseline"
_COLUMNS = {
    DAY: pl.Date,
    "hour": pl.Int64,
    "model": pl.String,
    "requests": pl.Int64,
    "rows": pl.Int64,
    "degraded": pl.Int64,
    "cache_hits": pl.Int64,
    "median_milliseconds": pl.Float64,
    "p99_milliseconds": pl.Float64,
}
"""`model` is the version that answered, or `baseline`; all but `rows` and `cache_hits` are of requests."""
_NO_DECISIONS = pl.Schema(
    {
        DAY: pl.Date(),
        "at": UTC_MICROSECONDS,
        "rows": pl.Int64(),
        "model_version": pl.Int64(),
        "degraded": pl.List(pl.String()),
        "cache_hits": pl.Int64(),
        "milliseconds": pl.Float64(),
    }
)


@dataclass(frozen=True)
class DayHealth:
    """A day's answers, and the requests that failed."""

    day: date
    hours: pl.DataFrame
    """As they are kept, in order."""
    degraded: Mapping[str, int]
    """Answers by the part of the platform that they lacked."""
    failed: Mapping[str, int]
    """Requests by what the endpoint said when it failed them."""
    p50_milliseconds: float | None
    p99_milliseconds: float | None
    limits: ServiceHealth

    @property
    def requests(self) -> int:
        """Requests that were answered."""
        return int(self.hours["requests"].sum())

    @property
    def rows(self) -> int:
        """Rows that were scored."""
        return int(self.hours["rows"].sum())

    @property
    def models(self) -> dict[str, int]:
        """Answers by the version that gave them."""
        counted = self.hours.group_by("model").agg(pl.col("requests").sum()).sort("model")
        return dict(counted.iter_rows())

    @property
    def shares(self) -> dict[str, tuple[float, float, str]]:
        """What may not be much: its share, the limit, and what is suspected."""
        limits, asked = self.limits, self.requests + sum(self.failed.values())
        degraded = int(self.hours["degraded"].sum())
        return {
            "degraded": (_share(degraded, self.requests), limits.maximum_degraded_share, _most(self.degraded)),
            BASELINE: (_share(self.models.get(BASELINE, 0), self.requests), limits.maximum_baseline_share, ""),
            "failed": (_share(sum(self.failed.values()), asked), limits.maximum_failed_share, _most(self.failed)),
        }

    @property
    def past(self) -> list[str]:
        """What is past its limit: degraded, baseline, failed, slow, silent."""
        found = [name for name, (share, limit, _) in self.shares.items() if share > limit]
        slow = self.p99_milliseconds is not None and self.p99_milliseconds > self.limits.maximum_milliseconds
        silent = self.requests < self.limits.minimum_requests
        return [*found, *(["slow"] if slow else []), *(["silent"] if silent else [])]

    @property
    def is_within_limits(self) -> bool:
        """Whether nothing is past its limit."""
        return not self.past


def health_table(product: str) -> str:
    """Name of the table of the health of a product's endpoint."""
    return f"{product}_service_health"


def watch_health(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[DayHealth]:
    """The health on each of these days, which replaces what was known of them."""
    found = [_day(product, platform, day) for day in days]
    kept = pl.concat([each.hours for each in found])
    platform.lake.replace_days(LAYER, health_table(product.name), kept, days)
    return found


def _day(product: ModelProduct, platform: Platform, day: date) -> DayHealth:
    decisions = _decisions(product, platform, day)
    parts = decisions["degraded"].explode(empty_as_null=False).drop_nulls()
    latency = decisions["milliseconds"]
    return DayHealth(
        day,
        _hours(decisions),
        dict(Counter(parts)),
        dict(Counter(_failures(product, platform, day))),
        _quantile(latency, 0.5),
        _quantile(latency, 0.99),
        product.monitoring.service_health,
    )


def _decisions(product: ModelProduct, platform: Platform, day: date) -> pl.DataFrame:
    """A row for each answer of the day."""
    logged = logged_rows(product, platform, [day])
    if logged is None:
        return pl.DataFrame(schema=_NO_DECISIONS)
    told = ("at", "model_version", "degraded", "cache_hits", "latency_microseconds")
    by_decision = logged.group_by(DAY, "decision_id").agg(
        pl.len().alias("rows"), *(pl.col(name).first() for name in told)
    )
    return by_decision.with_columns((pl.col("latency_microseconds") / 1e3).alias("milliseconds")).collect()


def _hours(decisions: pl.DataFrame) -> pl.DataFrame:
    model = pl.col("model_version").cast(pl.Int64).cast(pl.String).fill_null(BASELINE)
    return (
        decisions.group_by(DAY, pl.col("at").dt.hour().cast(pl.Int64).alias("hour"), model.alias("model"))
        .agg(
            pl.len().alias("requests"),
            pl.col("rows").sum(),
            (pl.col("degraded").list.len() > 0).sum().alias("degraded"),
            pl.col("cache_hits").sum(),
            pl.col("milliseconds").median().alias("median_milliseconds"),
            pl.col("milliseconds").quantile(0.99, "nearest").alias("p99_milliseconds"),
        )
        .sort("hour", "model")
        .select(pl.col(name).cast(kind) for name, kind in _COLUMNS.items())
    )


def _failures(product: ModelProduct, platform: Platform, day: date) -> Iterator[str]:
    """What was said of each request that the endpoint failed on a day of the platform's clock."""
    file = request_log_file(platform.environment, product.name)
    for path in (file.with_name(file.name + ".1"), file):
        lines = path.read_bytes().splitlines() if path.exists() else []
        for said in (orjson.loads(line) for line in lines if b'"status":5' in line):  # most lines are not of failures
            if datetime.fromisoformat(said.get("at", said["time"])).date() == day:
                yield f"{said['status']}: {said.get('problem', 'no reason given')}"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _most(counted: Mapping[str, int]) -> str:
    """What is counted most often."""
    return max(counted, key=lambda name: counted[name], default="")


def _quantile(values: pl.Series, share: float) -> float | None:
    value = values.quantile(share, "nearest")
    return None if value is None else float(value)
