"""Hold the champion's scores against labels that have become known since, and against what it promised.

What it promised is its quality on the days that it was judged by. Metrics and tests: compute/quality.py, and of slices
compute/slice_quality.py. What is kept are two tables of the lake: a row for each day and metric, and one for each day,
slice and metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

import polars as pl

from configs.monitoring import Quality
from configs.products import ModelProduct
from mlway_assets.batch_scoring import LAYER as PREDICTIONS
from mlway_assets.compute.drift_judgement import with_those_before
from mlway_assets.compute.estimates import Estimate
from mlway_assets.compute.measurement import score_columns
from mlway_assets.compute.population import known_labels
from mlway_assets.compute.quality import DayQuality, Verdict, judge_days, quality_by_day
from mlway_assets.compute.slice_quality import Promise, SliceQuality, promise_of
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.learned_rows import Learned, learned_by_champion
from mlway_assets.registry import ModelVersion
from mlway_assets.resources import Platform

_DAY = "event_day"
_Types = dict[str, type[pl.DataType]]
_METRIC: _Types = {"metric": pl.String, "value": pl.Float64, "lower": pl.Float64, "upper": pl.Float64}
_MODEL: _Types = {"model_version": pl.Int64, "model_digest": pl.String}
_COLUMNS: _Types = {
    _DAY: pl.Date,
    **_METRIC,
    "rows": pl.Int64,
    "labelled": pl.Int64,
    "is_settled": pl.Boolean,
    **_MODEL,
}
"""`lower` and `upper` are the ends of the metric's 95% interval, where it has one."""
_SLICE_COLUMNS: _Types = {
    _DAY: pl.Date,
    "column": pl.String,
    "slice": pl.String,
    **_METRIC,
    "expected": pl.Float64,
    "rows": pl.Int64,
    "is_past": pl.Boolean,
    **_MODEL,
}
"""Of the days up to `event_day` together. `expected` is the watched metric of the days that judged the champion."""
LABELLED_SHARE = "labelled_share"


@dataclass(frozen=True)
class QualityReport:
    """The settled days up to `day` beside those that the champion was judged by, and beside those before them.

    `without_labels` are days of the window that should have labels by now, and have too few.
    """

    day: date
    metric: str
    days: tuple[DayQuality, ...]
    without_labels: tuple[DayQuality, ...]
    verdict: Verdict
    limits: Quality
    slices: tuple[SliceQuality, ...]
    """Of the settled days together, those that are most surely worse first."""
    unlabelled: int
    """Rows of the window, its youngest days among them, whose labels are not known yet."""

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
        """Whether neither the days nor a slice of them are worse than they may be."""
        return self.verdict.is_within_limits and not any(each.is_past for each in self.slices)


def quality_table(product: str) -> str:
    """Name of the table of a product's quality."""
    return f"{product}_quality"


def slices_table(product: str) -> str:
    """Name of the table of a product's quality by slice."""
    return f"{product}_quality_by_slice"


def watch_quality(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[QualityReport]:
    """The quality on each of these days, which replaces what was known of them, judged over the days up to it.

    Raises MissingTableError, RelevanceError, and what learned_by_champion does.
    """
    learned, limits = learned_by_champion(product, platform), product.monitoring.quality
    known_days = with_those_before(days, limits.window_days + limits.change.reference_days)
    rows = _predicted(product, platform, known_days, learned)
    seen = _Seen(
        product,
        rows,
        {each.day: each for each in quality_by_day(product, rows)},
        _settled_days(product, rows, platform.clock.now()),
    )
    # The same for as long as the champion and the product are.
    key = (product.model_dump_json(), learned.recorded.version, learned.champion.digest)
    promise = platform.promises.of(key, lambda: promise_of(product, _judged(learned)))
    reports = [seen.report(day, promise) for day in days]
    platform.lake.replace_days(LAYER, quality_table(product.name), seen.table(days, learned.champion), days)
    platform.lake.replace_days(LAYER, slices_table(product.name), _slice_table(reports, learned.champion), days)
    return reports


@dataclass(frozen=True)
class _Seen:
    """The champion's predictions with the labels that are known, measured."""

    product: ModelProduct
    rows: pl.DataFrame
    days: Mapping[date, DayQuality]
    settled: set[date]

    @cached_property
    def without_labels(self) -> set[date]:
        """Settled days that have too few labels to be judged by."""
        least = self.product.monitoring.quality.minimum_labelled_share
        return {day for day in self.settled if self.days[day].labelled < least * self.days[day].rows}

    def report(self, day: date, promise: Promise) -> QualityReport:
        """Of the days up to `day`."""
        product, limits = self.product, self.product.monitoring.quality
        metric, known_days = product.watched_metric, limits.window_days + limits.change.reference_days
        judged = self.settled - self.without_labels
        known = [self.days[each] for each in with_those_before([day], known_days) if each in judged]
        window = with_those_before([day], limits.window_days)
        in_window = pl.col(_DAY).is_in([each for each in window if each in judged])
        return QualityReport(
            day,
            metric,
            tuple(known[-limits.window_days :]),
            tuple(self.days[each] for each in window if each in self.without_labels),
            judge_days(
                _values(promise.days, metric),
                _values(known, metric),
                limits,
                is_lower_better=product.is_watched_metric_lower_better,
                seed=product.training.seed,
            ),
            limits,
            tuple(promise.slices.held_against(self.rows.filter(in_window))),
            sum(self.days[each].rows - self.days[each].labelled for each in window if each in self.days),
        )

    def table(self, days: Sequence[date], champion: ModelVersion) -> pl.DataFrame:
        """A row for each day and metric."""
        rows = [
            {
                _DAY: each.day,
                **cells,
                "rows": each.rows,
                "labelled": each.labelled,
                "is_settled": each.day in self.settled,
                **_model(champion),
            }
            for each in (self.days[day] for day in days if day in self.days)
            for cells in _metric_cells(each)
        ]
        return pl.DataFrame(rows, schema=_COLUMNS)


def _judged(learned: Learned) -> pl.DataFrame:
    """The rows that judged the champion, with its scores."""
    rows = learned.part(learned.product.training.split.judged)
    return rows.with_columns(score_columns(learned.model.scores(rows)))


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


def _metric_cells(day: DayQuality) -> list[dict[str, object]]:
    labelled = Estimate(day.labelled / day.rows, None, day.rows)
    return [_estimate_cells(name, estimate) for name, estimate in {LABELLED_SHARE: labelled, **day.estimates}.items()]


def _estimate_cells(name: str, estimate: Estimate) -> dict[str, object]:
    lower, upper = estimate.interval or (None, None)
    return {"metric": name, "value": estimate.value, "lower": lower, "upper": upper}


def _slice_table(reports: Sequence[QualityReport], champion: ModelVersion) -> pl.DataFrame:
    rows = [
        {
            _DAY: report.day,
            "column": each.column,
            "slice": each.value,
            **_estimate_cells(name, estimate),
            "expected": each.expected.value if name == report.metric else None,
            "rows": estimate.units,
            "is_past": each.is_past,
            **_model(champion),
        }
        for report in reports
        for each in report.slices
        for name, estimate in each.estimates.items()
    ]
    return pl.DataFrame(rows, schema=_SLICE_COLUMNS)


def _model(champion: ModelVersion) -> dict[str, object]:
    return {"model_version": champion.version, "model_digest": champion.digest}
