"""Hold the newest days against what a product's champion has learned from: their features, and its scores.

How drift is measured: compute/drift.py. What is kept of it is a table of the lake, a row for each day and column.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil, isnan

import polars as pl

from configs.monitoring import Drift, InputDrift
from configs.products import ModelProduct
from mlway_assets.batch_scoring import LAYER as PREDICTIONS
from mlway_assets.batch_scoring import features_of_days
from mlway_assets.compute.drift import ColumnDrift, Reference
from mlway_assets.compute.population import part_of
from mlway_assets.registry import ModelVersion
from mlway_assets.resources import Platform
from mlway_assets.training_sets import LAYER as TRAINING_SETS
from serving.scoring import MissingFeaturesError, load_model

LAYER = "monitoring"
SCORE = "score"
_DAY = "event_day"
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
    """The columns of the days up to `day`, the one that moved furthest first, against a champion's."""

    day: date
    days: int
    rows: int
    minimum_rows: int
    model: ModelVersion
    findings: tuple[Finding, ...]
    most_drifted: int
    """So many columns may have drifted."""

    @property
    def has_enough_rows(self) -> bool:
        """Whether anything is said of it."""
        return self.rows >= self.minimum_rows

    @property
    def drifted(self) -> list[Finding]:
        """The columns past a limit."""
        return [found for found in self.findings if found.is_drifted]

    @property
    def is_within_limits(self) -> bool:
        """Whether no more columns have drifted than may. With too few rows it is: nothing is known."""
        return not self.has_enough_rows or len(self.drifted) <= self.most_drifted


def input_drift_table(product: str) -> str:
    """Name of the table of a product's input drift."""
    return f"{product}_input_drift"


def prediction_drift_table(product: str) -> str:
    """Name of the table of a product's prediction drift."""
    return f"{product}_prediction_drift"


def watch_inputs(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[DayDrift]:
    """The drift of the champion's features on each of these days, which replaces what was known of them.

    Raises MissingChampionError, MissingTableError, MissingFeaturesError.
    """
    limits, champion = product.monitoring.input_drift, platform.registry.require_champion(product.name)
    features = list(load_model(champion.folder, champion.digest).contract.features)
    learned = part_of(rows_learned_from(product, platform, champion), product, "train")
    rows = features_of_days(product, platform, with_those_before(days, limits.window_days))
    if missing := [name for name in features if name not in rows.columns]:
        raise MissingFeaturesError(missing)
    expected = learned.select(event_day(product), *features)
    found = _held_against(expected, rows, days, limits, champion)
    platform.lake.replace_days(LAYER, input_drift_table(product.name), _table(found), days)
    return found


def watch_predictions(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[DayDrift]:
    """The drift of the champion's scores on each of these days, which replaces what was known of them.

    Raises MissingChampionError, MissingTableError.
    """
    limits, champion = product.monitoring.prediction_drift, platform.registry.require_champion(product.name)
    frame = rows_learned_from(product, platform, champion)
    learned = pl.concat([part_of(frame, product, "train"), part_of(frame, product, "validate")])
    scores = load_model(champion.folder, champion.digest).score(learned)
    wanted = with_those_before(days, limits.window_days)
    by_champion = pl.col("model_digest") == champion.digest
    rows = platform.lake.scan_days(PREDICTIONS, product.name, wanted).filter(by_champion).select(_DAY, SCORE).collect()
    expected = learned.select(event_day(product), pl.Series(SCORE, scores))
    found = _held_against(expected, rows, days, limits, champion)
    platform.lake.replace_days(LAYER, prediction_drift_table(product.name), _table(found), days)
    return found


def _held_against(
    expected: pl.DataFrame, rows: pl.DataFrame, days: Sequence[date], limits: Drift, champion: ModelVersion
) -> list[DayDrift]:
    """The drift of each day's window of `rows`; columns, beside `event_day`, are those of `expected`."""
    reference = Reference(expected.drop(_DAY))
    usual = _greatest_psi(reference, expected, limits.window_days)
    share = limits.maximum_drifted_share if isinstance(limits, InputDrift) else 0.0
    return [
        DayDrift(
            day,
            limits.window_days,
            len(window),
            limits.minimum_rows,
            champion,
            _furthest_first(_judged(drift, limits, usual) for drift in reference.drift(window)),
            most_drifted=ceil(share * len(reference.columns)),
        )
        for day, window in _windows(rows, days, limits.window_days)
    ]


def event_day(product: ModelProduct) -> pl.Expr:
    """The day that a row belongs to, as the tables of the lake have it."""
    return pl.col(product.population.event_time).dt.date().alias(_DAY)


def rows_learned_from(product: ModelProduct, platform: Platform, champion: ModelVersion) -> pl.DataFrame:
    """The training set that the champion was made from, as it was then: every part of it."""
    version = platform.registry.training_set_version(champion.run_id)
    return platform.lake.scan(TRAINING_SETS, product.name, version).collect()


def with_those_before(days: Sequence[date], window_days: int) -> list[date]:
    """These days, and those that belong to their windows."""
    return sorted({day - timedelta(days=before) for day in days for before in range(window_days)})


def _windows(rows: pl.DataFrame, days: Sequence[date], window_days: int) -> list[tuple[date, pl.DataFrame]]:
    """For each day the rows of the days up to it."""
    return [(day, rows.filter(pl.col(_DAY).is_between(day - timedelta(days=window_days - 1), day))) for day in days]


def _greatest_psi(reference: Reference, expected: pl.DataFrame, window_days: int) -> Mapping[str, float]:
    """The greatest population stability index of each column in any whole window of the rows themselves."""
    first, last = expected[_DAY].min(), expected[_DAY].max()
    if not isinstance(first, date) or not isinstance(last, date):
        return {}
    whole = ((last - first).days + 1) // window_days
    ends = [first + timedelta(days=window_days * (number + 1) - 1) for number in range(whole)]
    greatest: dict[str, float] = {}
    for _, window in _windows(expected, ends, window_days):
        for drift in reference.drift(window):
            greatest[drift.name] = max(greatest.get(drift.name, 0.0), drift.psi)
    return greatest


def _judged(drift: ColumnDrift, limits: Drift, usual: Mapping[str, float]) -> Finding:
    psi_limit = max(limits.minimum_psi, usual.get(drift.name, 0.0))
    is_past = {"psi": drift.psi > psi_limit}
    if isinstance(limits, InputDrift):
        is_past["missing"] = drift.missing_difference > limits.maximum_missing_share_difference
        is_past["unseen"] = drift.unseen_share > limits.maximum_unseen_share
    enough = drift.rows >= limits.minimum_rows
    return Finding(drift, psi_limit, tuple(name for name, past in is_past.items() if past and enough))


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
