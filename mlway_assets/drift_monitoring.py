"""Hold the newest days against what a product's champion has learned from: their features, and its scores.

How drift is measured: compute/drift.py. What is kept of it is a table of the lake, a row for each day and column.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import isnan

import polars as pl

from configs.features import WindowedFeatures
from configs.monitoring import Drift, InputDrift
from configs.products import ModelProduct
from mlway_assets.batch_scoring import LAYER as PREDICTIONS
from mlway_assets.batch_scoring import features_of_days
from mlway_assets.compute.drift import ColumnDrift, Reference
from mlway_assets.learned_rows import learned_by_champion
from mlway_assets.registry import ModelVersion
from mlway_assets.resources import Platform
from serving.scoring import MissingFeaturesError

LAYER = "monitoring"
SCORE = "score"
_DAY = "event_day"
_ROUNDING = 1e-9
_COLUMNS: dict[str, type[pl.DataType]] = {
    _DAY: pl.Date,
    "column": pl.String,
    "rows": pl.Int64,
    "psi": pl.Float64,
    "psi_limit": pl.Float64,
    "distance": pl.Float64,
    "missing_share": pl.Float64,
    "expected_missing_share": pl.Float64,
    "unseen_share": pl.Float64,
    "past": pl.String,
    "model_version": pl.Int64,
    "model_digest": pl.String,
}
"""Of both tables. `past` names the limits that the column is past: psi, missing, unseen."""


@dataclass(frozen=True)
class Finding:
    """How far a column has moved over a window, how far it may, and which of its limits it is past."""

    drift: ColumnDrift
    psi_limit: float
    past: tuple[str, ...]

    @property
    def is_drifted(self) -> bool:
        """Whether it is past a limit."""
        return bool(self.past)

    @property
    def excess(self) -> float:
        """Its population stability index as a multiple of the limit; 0 where there is none."""
        return 0.0 if isnan(self.drift.psi) else self.drift.psi / self.psi_limit


@dataclass(frozen=True)
class DayDrift:
    """The columns of the days up to `day` beside a champion's, those past the most limits first."""

    day: date
    days: int
    """That have rows."""
    least_days: int
    rows: int
    minimum_rows: int
    model: ModelVersion
    findings: tuple[Finding, ...]
    most_drifted: int
    """So many columns may have drifted."""

    @property
    def is_told(self) -> bool:
        """Whether there is enough to say anything of it."""
        return self.rows >= self.minimum_rows and self.days >= self.least_days

    @property
    def drifted(self) -> list[Finding]:
        """The columns past a limit."""
        return [found for found in self.findings if found.is_drifted]

    @property
    def is_within_limits(self) -> bool:
        """Whether no more columns have drifted than may. Where there is too little, it is: nothing is known."""
        return not self.is_told or len(self.drifted) <= self.most_drifted


@dataclass(frozen=True)
class _Usual:
    """What the windows of the expected rows themselves are like: the greatest index of each column, the fewest days."""

    psi: Mapping[str, float]
    least_days: int


def input_drift_table(product: str) -> str:
    """Name of the table of a product's input drift."""
    return f"{product}_input_drift"


def prediction_drift_table(product: str) -> str:
    """Name of the table of a product's prediction drift."""
    return f"{product}_prediction_drift"


def watch_inputs(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[DayDrift]:
    """The drift of the champion's features on each of these days, which replaces what was known of them.

    Raises MissingFeaturesError, MissingTableError, and what learned_by_champion does.
    """
    limits, learned = product.monitoring.input_drift, learned_by_champion(product, platform)
    features = list(learned.model.contract.features)
    rows = features_of_days(product, platform, with_those_before(days, limits.window_days))
    if missing := [name for name in features if name not in rows.columns]:
        raise MissingFeaturesError(missing)
    expected = learned.part("train").select(_DAY, *features)
    found = _held_against(expected, rows, days, limits, learned.champion, _longest_window(product, platform))
    platform.lake.replace_days(LAYER, input_drift_table(product.name), _table(found), days)
    return found


def watch_predictions(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[DayDrift]:
    """The drift of the champion's scores on each of these days, which replaces what was known of them.

    They are held against its scores of all that it has learned from, since a month of validation knows few kinds of
    weeks. Raises MissingTableError, and what learned_by_champion does.
    """
    limits, learned = product.monitoring.prediction_drift, learned_by_champion(product, platform)
    expected = pl.concat([learned.part("train"), learned.part("validate")])
    scores = pl.Series(SCORE, learned.model.score(expected))
    by_champion = pl.col("model_digest") == learned.champion.digest
    scored = platform.lake.scan_days(PREDICTIONS, product.name, with_those_before(days, limits.window_days))
    rows = scored.filter(by_champion).select(_DAY, SCORE).collect()
    unsettled = _longest_window(product, platform)
    found = _held_against(expected.select(_DAY, scores), rows, days, limits, learned.champion, unsettled)
    platform.lake.replace_days(LAYER, prediction_drift_table(product.name), _table(found), days)
    return found


def with_those_before(days: Sequence[date], window_days: int) -> list[date]:
    """These days, and those that belong to their windows."""
    return sorted({day - timedelta(days=before) for day in days for before in range(window_days)})


def _longest_window(product: ModelProduct, platform: Platform) -> timedelta:
    """After the first row of all, so long some features have not seen what they will."""
    groups = platform.project.table_groups(product)
    windows = [max(group.windows) for group in groups if isinstance(group, WindowedFeatures)]
    return max(windows, default=timedelta(0))


def _held_against(
    expected: pl.DataFrame,
    rows: pl.DataFrame,
    days: Sequence[date],
    limits: Drift,
    champion: ModelVersion,
    unsettled: timedelta,
) -> list[DayDrift]:
    """The drift of each day's window of `rows`; columns, beside `event_day`, are those of `expected`.

    The first days of `expected`, over as long as `unsettled`, set no limits.
    """
    reference = Reference(expected.drop(_DAY))
    usual = _usual(reference, expected, limits, unsettled)
    share = limits.maximum_drifted_share if isinstance(limits, InputDrift) else 0.0
    return [
        DayDrift(
            day=day,
            days=window[_DAY].n_unique(),
            least_days=usual.least_days,
            rows=len(window),
            minimum_rows=limits.minimum_rows,
            model=champion,
            findings=_furthest_first(_judged(drift, limits, usual.psi) for drift in reference.drift(window)),
            most_drifted=int(share * len(reference.columns) + _ROUNDING),
        )
        for day, window in _windows(rows, days, limits.window_days)
    ]


def _windows(rows: pl.DataFrame, days: Sequence[date], window_days: int) -> list[tuple[date, pl.DataFrame]]:
    """For each day the rows of the days up to it."""
    return [(day, rows.filter(pl.col(_DAY).is_between(day - timedelta(days=window_days - 1), day))) for day in days]


def _usual(reference: Reference, expected: pl.DataFrame, limits: Drift, unsettled: timedelta) -> _Usual:
    """Of the whole windows of the expected rows, one after the other, as many as have enough rows."""
    first, last = expected[_DAY].min(), expected[_DAY].max()
    if not isinstance(first, date) or not isinstance(last, date):
        return _Usual({}, limits.window_days)
    if first + unsettled + timedelta(days=limits.window_days) <= last:
        first += unsettled
    whole = ((last - first).days + 1) // limits.window_days
    ends = [first + timedelta(days=limits.window_days * (number + 1) - 1) for number in range(whole)]
    windows = [
        window for _, window in _windows(expected, ends, limits.window_days) if len(window) >= limits.minimum_rows
    ]
    greatest: dict[str, float] = {}
    for window in windows:
        for drift in reference.drift(window):
            greatest[drift.name] = max(greatest.get(drift.name, 0.0), drift.psi)
    return _Usual(greatest, min((window[_DAY].n_unique() for window in windows), default=limits.window_days))


def _judged(drift: ColumnDrift, limits: Drift, usual: Mapping[str, float]) -> Finding:
    psi_limit = max(limits.minimum_psi, usual.get(drift.name, 0.0))
    is_past = {
        "psi": drift.psi > psi_limit,
        "missing": abs(drift.missing_difference) > limits.maximum_missing_share_difference,
        "unseen": isinstance(limits, InputDrift) and drift.unseen_share > limits.maximum_unseen_share,
    }
    return Finding(drift, psi_limit, tuple(name for name, past in is_past.items() if past and drift.rows))


def _furthest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda found: (-len(found.past), -found.excess, found.drift.name)))


def _table(found: Sequence[DayDrift]) -> pl.DataFrame:
    """A row for each day and column."""
    rows = [
        {
            _DAY: each.day,
            "column": finding.drift.name,
            "rows": each.rows,
            "psi": finding.drift.psi,
            "psi_limit": finding.psi_limit,
            "distance": finding.drift.distance,
            "missing_share": finding.drift.missing_share,
            "expected_missing_share": finding.drift.expected_missing_share,
            "unseen_share": finding.drift.unseen_share,
            "past": ",".join(finding.past),
            "model_version": each.model.version,
            "model_digest": each.model.digest,
        }
        for each in found
        for finding in each.findings
    ]
    return pl.DataFrame(rows, schema=_COLUMNS)
