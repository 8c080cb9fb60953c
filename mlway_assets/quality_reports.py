"""What the newest days say of a model's scores: measured, judged by what the model promised, and kept by day.

Metrics and tests: compute/quality.py, and of slices compute/slice_quality.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property

import polars as pl

from configs.monitoring import Quality
from configs.products import ModelProduct
from mlway_assets.compute.drift_judgement import with_those_before
from mlway_assets.compute.estimates import Estimate
from mlway_assets.compute.measurement import score_columns
from mlway_assets.compute.population import LABEL
from mlway_assets.compute.quality import DayQuality, Verdict, judge_days, quality_by_day
from mlway_assets.compute.slice_quality import Promise, SliceQuality, promise_of
from mlway_assets.learned_rows import Learned
from mlway_assets.resources import Platform

DAY = "event_day"
LABELLED_SHARE = "labelled_share"
_Types = dict[str, type[pl.DataType]]
_METRIC: _Types = {"metric": pl.String, "value": pl.Float64, "lower": pl.Float64, "upper": pl.Float64}
_MODEL: _Types = {"model_version": pl.Int64, "model_digest": pl.String}
_COLUMNS: _Types = {
    DAY: pl.Date,
    **_METRIC,
    "rows": pl.Int64,
    "labelled": pl.Int64,
    "is_settled": pl.Boolean,
    **_MODEL,
}
"""`lower` and `upper` are the ends of the metric's 95% interval, where it has one."""
_SLICE_COLUMNS: _Types = {
    DAY: pl.Date,
    "column": pl.String,
    "slice": pl.String,
    **_METRIC,
    "expected": pl.Float64,
    "rows": pl.Int64,
    "is_past": pl.Boolean,
    **_MODEL,
}
"""Of the days up to `event_day` together. `expected` is the watched metric of the days that judged the model."""


@dataclass(frozen=True)
class ScoredBy:
    """Which model scored rows; neither where the baseline did."""

    version: int | None
    digest: str | None

    @property
    def cells(self) -> dict[str, object]:
        """Of the kept tables."""
        return {"model_version": self.version, "model_digest": self.digest}


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
    hidden: int = 0
    """Rows of the window beside them of which nobody can tell what they were about, and so no label."""

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


@dataclass(frozen=True)
class MeasuredDays:
    """Scores of one model with the labels that are known, measured by day.

    `rows` have the request's fields and what compute/quality.py wants. A report looks at the newest `days_waited` days.
    """

    product: ModelProduct
    limits: Quality
    model: ScoredBy
    rows: pl.DataFrame
    now: datetime
    days_waited: int
    hidden: Mapping[date, int] = field(default_factory=dict)
    """How many rows beside them were scored on a day of which nobody can tell what they were about."""

    @cached_property
    def days(self) -> Mapping[date, DayQuality]:
        """The quality of each day that has rows."""
        return {each.day: each for each in quality_by_day(self.product, self.rows)}

    @cached_property
    def settled(self) -> set[date]:
        """The days whose labels have all had the time that they take: those that come first are no fair sample."""
        last = self.rows.group_by(DAY).agg(pl.col(self.product.population.event_time).max().alias("last"))
        return set(last.filter(pl.col("last") + self.limits.label_delay <= self.now)[DAY])

    @cached_property
    def without_labels(self) -> set[date]:
        """Settled days that have too few labels to be judged by, though rows enough."""
        least, enough = self.limits.minimum_labelled_share, self._large(self.rows)
        return {day for day in self.settled & enough if self.days[day].labelled < least * self.days[day].rows}

    @cached_property
    def judged(self) -> set[date]:
        """Settled days that say something."""
        return (self.settled & self._large(self.rows.drop_nulls(LABEL))) - self.without_labels

    def _large(self, rows: pl.DataFrame) -> set[date]:
        """The days with enough of these rows; what was scored twice is one of them."""
        counted = rows.group_by(DAY).agg(pl.struct(*self.product.population.request).n_unique().alias("rows"))
        return set(counted.filter(pl.col("rows") >= self.limits.minimum_labelled)[DAY])

    def report(self, day: date, promise: Promise) -> QualityReport:
        """Of the days up to `day`."""
        product, limits, metric = self.product, self.limits, self.product.watched_metric
        window = with_those_before([day], self.days_waited)
        looked_at = with_those_before([day], self.days_waited + limits.days_before)
        known = [self.days[each] for each in looked_at if each in self.judged]
        # Where labels have stopped, the last that came are not the newest days for ever.
        newest = tuple(each for each in known[-limits.window_days :] if each.day in window)
        before = known[: len(known) - len(newest)]
        in_window = pl.col(DAY).is_in([each.day for each in newest])
        missing = (self.days[each].rows - self.days[each].labelled for each in window if each in self.days)
        return QualityReport(
            day,
            metric,
            newest,
            tuple(self.days[each] for each in window if each in self.without_labels),
            judge_days(
                _values(promise.days, metric),
                _values(before, metric),
                _values(newest, metric),
                limits,
                is_lower_better=product.is_watched_metric_lower_better,
                seed=product.training.seed,
            ),
            limits,
            tuple(promise.slices.held_against(self.rows.filter(in_window))),
            sum(missing),
            sum(self.hidden.get(each, 0) for each in window),
        )

    def table(self, days: Iterable[date]) -> pl.DataFrame:
        """A row for each of these days and metric."""
        rows = [
            {
                DAY: each.day,
                **cells,
                "rows": each.rows,
                "labelled": each.labelled,
                "is_settled": each.day in self.settled,
                **self.model.cells,
            }
            for each in (self.days[day] for day in days if day in self.days)
            for cells in _metric_cells(each)
        ]
        return pl.DataFrame(rows, schema=_COLUMNS)


def promise_of_champion(product: ModelProduct, learned: Learned, platform: Platform) -> Promise:
    """What the champion has shown on the rows that judged it: the same for as long as it and the product are.

    Raises RelevanceError.
    """

    def made() -> Promise:
        rows = learned.part(learned.product.training.split.judged)
        return promise_of(product, rows.with_columns(score_columns(learned.model.scores(rows))))

    key = (product.model_dump_json(), learned.recorded.version, learned.champion.digest)
    return platform.promises.of(key, made)


def slice_table(reports: Sequence[QualityReport], model: ScoredBy) -> pl.DataFrame:
    """A row for each report's day, slice and metric."""
    rows = [
        {
            DAY: report.day,
            "column": each.column,
            "slice": each.value,
            **_estimate_cells(name, estimate),
            "expected": each.expected.value if name == report.metric else None,
            "rows": estimate.units,
            "is_past": each.is_past,
            **model.cells,
        }
        for report in reports
        for each in report.slices
        for name, estimate in each.estimates.items()
    ]
    return pl.DataFrame(rows, schema=_SLICE_COLUMNS)


def _values(days: Sequence[DayQuality], metric: str) -> list[float]:
    """The metric of the days that have it."""
    return [each.metrics[metric] for each in days if metric in each.metrics]


def _metric_cells(day: DayQuality) -> list[dict[str, object]]:
    labelled = Estimate(day.labelled / day.rows, None, day.rows)
    return [_estimate_cells(name, estimate) for name, estimate in {LABELLED_SHARE: labelled, **day.estimates}.items()]


def _estimate_cells(name: str, estimate: Estimate) -> dict[str, object]:
    lower, upper = estimate.interval or (None, None)
    return {"metric": name, "value": estimate.value, "lower": lower, "upper": upper}
