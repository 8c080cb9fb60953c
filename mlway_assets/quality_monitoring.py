"""Hold the champion's scores against labels that have become known since, and against what it promised.

What it promised is its quality on the days that it was judged by. Metrics and tests: compute/quality.py. What is kept
is a table of the lake, a row for each day and metric.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from configs.monitoring import Quality
from configs.products import ModelProduct
from mlway_assets.batch_scoring import LAYER as PREDICTIONS
from mlway_assets.compute.drift_judgement import with_those_before
from mlway_assets.compute.measurement import score_columns
from mlway_assets.compute.population import known_labels
from mlway_assets.compute.quality import DayQuality, Verdict, judge_days, quality_by_day
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.learned_rows import Learned, learned_by_champion
from mlway_assets.registry import ModelVersion
from mlway_assets.resources import Platform

_DAY = "event_day"
_COLUMNS: dict[str, type[pl.DataType]] = {
    _DAY: pl.Date,
    "metric": pl.String,
    "value": pl.Float64,
    "rows": pl.Int64,
    "labelled": pl.Int64,
    "is_settled": pl.Boolean,
    "model_version": pl.Int64,
    "model_digest": pl.String,
}


@dataclass(frozen=True)
class QualityReport:
    """The settled days up to `day` beside those that the champion was judged by, and beside those before them.

    `unlabelled` are days of the window that should have labels by now, and have too few.
    """

    day: date
    metric: str
    days: tuple[DayQuality, ...]
    unlabelled: tuple[DayQuality, ...]
    verdict: Verdict
    limits: Quality

    @property
    def rows(self) -> int:
        """Rows that were scored."""
        return sum(each.rows for each in self.days)

    @property
    def labelled(self) -> int:
        """Those of them whose labels are known."""
        return sum(each.labelled for each in self.days)

    @property
    def is_within_limits(self) -> bool:
        """Whether the days are neither worse than promised nor suddenly worse than those before."""
        return self.verdict.is_within_limits


def quality_table(product: str) -> str:
    """Name of the table of a product's quality."""
    return f"{product}_quality"


def watch_quality(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[QualityReport]:
    """The quality on each of these days, which replaces what was known of them, judged over the days up to it.

    Raises MissingTableError, RelevanceError, and what learned_by_champion does.
    """
    learned = learned_by_champion(product, platform)
    limits, metric, champion = product.monitoring.quality, product.watched_metric, learned.champion
    judged = learned.part(learned.product.training.split.judged)
    promised = _values(
        quality_by_day(product, judged.with_columns(score_columns(learned.model.scores(judged)))), metric
    )
    known_days = limits.window_days + limits.change.reference_days
    rows = _predicted(product, platform, with_those_before(days, known_days), learned)
    found = {each.day: each for each in quality_by_day(product, rows)}
    settled = _settled_days(product, rows, platform.clock.now())
    unlabelled = {day for day in settled if found[day].labelled < limits.minimum_labelled_share * found[day].rows}
    reports = []
    for day in days:
        seen = [found[each] for each in with_those_before([day], known_days) if each in settled - unlabelled]
        window = with_those_before([day], limits.window_days)
        without = tuple(found[each] for each in window if each in unlabelled)
        verdict = judge_days(
            promised,
            _values(seen, metric),
            limits,
            is_lower_better=product.is_watched_metric_lower_better,
            seed=product.training.seed,
        )
        reports.append(QualityReport(day, metric, tuple(seen[-limits.window_days :]), without, verdict, limits))
    kept = [found[day] for day in days if day in found]
    platform.lake.replace_days(LAYER, quality_table(product.name), _table(kept, settled, champion), days)
    return reports


def _settled_days(product: ModelProduct, rows: pl.DataFrame, now: datetime) -> set[date]:
    """The days whose labels have had the time that they take."""
    last = rows.group_by(_DAY).agg(pl.col(product.population.event_time).max().alias("last"))
    return set(last.filter(pl.col("last") + product.monitoring.quality.label_delay <= now)[_DAY])


def _values(days: Sequence[DayQuality], metric: str) -> list[float]:
    """The metric of the days that have it."""
    return [each.metrics[metric] for each in days if metric in each.metrics]


def _predicted(product: ModelProduct, platform: Platform, days: Sequence[date], learned: Learned) -> pl.DataFrame:
    """The champion's predictions of these days, with the labels that are known by now."""
    request = list(product.population.request)
    table = platform.lake.scan_days("curated", product.population.table, days)
    # As they were declared for the champion: by another label it cannot be judged.
    labels = known_labels(learned.product, table, platform.clock.now()).collect()
    scored = platform.lake.scan_days(PREDICTIONS, product.name, days)
    rows = scored.filter(pl.col("model_digest") == learned.champion.digest).collect()
    return rows.join(labels, on=request, how="left", nulls_equal=True, validate="m:1")


def _table(days: Sequence[DayQuality], settled: Collection[date], champion: ModelVersion) -> pl.DataFrame:
    rows = [
        {
            _DAY: each.day,
            "metric": metric,
            "value": value,
            "rows": each.rows,
            "labelled": each.labelled,
            "is_settled": each.day in settled,
            "model_version": champion.version,
            "model_digest": champion.digest,
        }
        for each in days
        for metric, value in each.metrics.items()
        if metric != "rows"
    ]
    return pl.DataFrame(rows, schema=_COLUMNS)
