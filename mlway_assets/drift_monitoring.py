"""Hold the newest days against what a product's champion has learned from: their features, and its scores.

How drift is judged: compute/drift_judgement.py. What is kept of it is a table of the lake, a row for each day and
column.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from configs.features import WindowedFeatures
from configs.load import Project
from configs.monitoring import Drift
from configs.products import ModelProduct
from mlway_assets.batch_scoring import LAYER as PREDICTIONS
from mlway_assets.batch_scoring import features_of_days
from mlway_assets.compute.drift_judgement import DAY, DayDrift, Expectation, with_those_before
from mlway_assets.learned_rows import Learned, learned_by_champion
from mlway_assets.registry import ModelVersion
from mlway_assets.resources import Platform
from serving.scoring import MissingFeaturesError

LAYER = "monitoring"
INPUTS, SCORE = "inputs", "score"
_COLUMNS: dict[str, type[pl.DataType]] = {
    DAY: pl.Date,
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


def input_drift_table(product: str) -> str:
    """Name of the table of a product's input drift."""
    return f"{product}_input_drift"


def prediction_drift_table(product: str) -> str:
    """Name of the table of a product's prediction drift."""
    return f"{product}_prediction_drift"


@dataclass(frozen=True)
class Inputs:
    """The champion's features in some days' windows, and each day's drift."""

    learned: Learned
    rows: pl.DataFrame
    found: Sequence[DayDrift]

    def expected(self) -> pl.DataFrame:
        """The features of the champion's training part, which are read now."""
        return _learned_features(self.learned)


def judge_inputs(product: ModelProduct, platform: Platform, days: Sequence[date]) -> Inputs:
    """Hold these days against the champion, and keep nothing.

    Raises MissingFeaturesError, MissingTableError, and what learned_by_champion does.
    """
    limits, learned = product.monitoring.input_drift, learned_by_champion(product, platform)
    expectation = _expectation(INPUTS, product, learned, limits, lambda: _learned_features(learned))
    rows = features_of_days(product, platform, with_those_before(days, limits.window_days))
    if missing := [name for name in expectation.columns if name not in rows.columns]:
        raise MissingFeaturesError(missing)
    return Inputs(learned, rows, expectation.held_against(rows, days))


def watch_inputs(product: ModelProduct, platform: Platform, days: Sequence[date]) -> Sequence[DayDrift]:
    """The drift of the champion's features on each of these days, which replaces what was known of them.

    Raises what judge_inputs does.
    """
    inputs = judge_inputs(product, platform, days)
    table = _table(inputs.found, inputs.learned.champion)
    platform.lake.replace_days(LAYER, input_drift_table(product.name), table, days)
    return inputs.found


def watch_predictions(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[DayDrift]:
    """The drift of the champion's scores on each of these days, which replaces what was known of them.

    They are held against its scores of all that it has learned from, since a month of validation knows few kinds of
    weeks. Raises MissingTableError, and what learned_by_champion does.
    """
    limits, learned = product.monitoring.prediction_drift, learned_by_champion(product, platform)
    expectation = _expectation(SCORE, product, learned, limits, lambda: _learned_scores(learned))
    by_champion = pl.col("model_digest") == learned.champion.digest
    scored = platform.lake.scan_days(PREDICTIONS, product.name, with_those_before(days, limits.window_days))
    rows = scored.filter(by_champion).select(DAY, SCORE).collect()
    found = expectation.held_against(rows, days)
    table = _table(found, learned.champion)
    platform.lake.replace_days(LAYER, prediction_drift_table(product.name), table, days)
    return found


def _expectation(
    kind: str, product: ModelProduct, learned: Learned, limits: Drift, rows: Callable[[], pl.DataFrame]
) -> Expectation:
    """What is expected of days, which is the same for as long as the champion is."""
    unsettled = longest_window(product, learned.platform.project)
    key = (kind, product.name, learned.recorded.version, learned.champion.digest, limits, unsettled)
    return learned.platform.expectations.of(key, lambda: Expectation(rows(), limits, unsettled))


def _learned_features(learned: Learned) -> pl.DataFrame:
    return learned.part("train").select(DAY, *learned.model.contract.features)


def _learned_scores(learned: Learned) -> pl.DataFrame:
    rows = pl.concat([learned.part("train"), learned.part("validate")])
    return rows.select(DAY, pl.Series(SCORE, learned.model.score(rows)))


def longest_window(product: ModelProduct, project: Project) -> timedelta:
    """After the first row of all, so long some features have not seen what they will."""
    groups = project.table_groups(product)
    windows = [max(group.windows) for group in groups if isinstance(group, WindowedFeatures)]
    return max(windows, default=timedelta(0))


def _table(found: Sequence[DayDrift], champion: ModelVersion) -> pl.DataFrame:
    """A row for each day and column."""
    rows = [
        {
            DAY: each.day,
            "column": finding.drift.name,
            "rows": each.rows,
            "psi": finding.drift.psi,
            "psi_limit": finding.psi_limit,
            "distance": finding.drift.distance,
            "missing_share": finding.drift.missing_share,
            "expected_missing_share": finding.drift.expected_missing_share,
            "unseen_share": finding.drift.unseen_share,
            "past": ",".join(finding.past),
            "model_version": champion.version,
            "model_digest": champion.digest,
        }
        for each in found
        for finding in each.findings
    ]
    return pl.DataFrame(rows, schema=_COLUMNS)
