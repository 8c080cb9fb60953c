"""Training-serving skew: what models saw at endpoints, as it was logged, against the lake as of the same moments.

How values are compared: compute/vector_differences.py. One decision is explained in decision_explanation.py, current
values are compared in parity.py. What is kept is a table of the lake, a row for each day and feature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from configs.monitoring import ServingSkew
from configs.products import ModelProduct
from feature_repo.point_in_time import TIMESTAMP_SUFFIX
from feature_repo.services import service_name
from feature_repo.store import historical_features, open_store
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.compute.vector_differences import (
    AGE,
    LAKE,
    LOGGED,
    MOMENT,
    FeatureDifference,
    vector_differences,
)
from mlway_assets.decision_table import AGE as AGE_COLUMN
from mlway_assets.decision_table import FEATURE, REQUEST
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.logged_decisions import DAY, hides_request, logged_rows, of_models, sample_rows
from mlway_assets.resources import Platform
from serving.scoring import feature_matrix, load_model

_COLUMNS: dict[str, type[pl.DataType]] = {
    DAY: pl.Date,
    "feature": pl.String,
    "rows": pl.Int64,
    "differing_share": pl.Float64,
    "behind_share": pl.Float64,
    "is_past": pl.Boolean,
    "example": pl.String,
}
"""`example` is a row that differs, as `mlway explain-decision` takes it."""


@dataclass(frozen=True)
class DaySkew:
    """The features of a day's sample of logged rows, those that differ most first."""

    day: date
    rows: int
    hidden: int
    """Rows of the sample of which the log hides what a request was about, so that the lake cannot be asked."""
    features: tuple[FeatureDifference, ...]
    limits: ServingSkew

    @property
    def is_told(self) -> bool:
        """Whether there is enough to say anything of it."""
        return self.rows >= self.limits.minimum_rows

    @property
    def past(self) -> list[FeatureDifference]:
        """The features past a limit."""
        return [each for each in self.features if self.is_past(each)] if self.is_told else []

    @property
    def is_within_limits(self) -> bool:
        """Whether no feature is past a limit. Where there are too few rows none is: nothing is known."""
        return not self.past

    def is_past(self, found: FeatureDifference) -> bool:
        """Whether a feature is past a limit."""
        limits = self.limits
        return (
            found.differing_share > limits.maximum_differing_share or found.behind_share > limits.maximum_behind_share
        )


def serving_skew_table(product: str) -> str:
    """Name of the table of a product's training-serving skew."""
    return f"{product}_serving_skew"


def watch_serving_skew(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[DaySkew]:
    """The skew of each of these days, which replaces what was known of them. Raises ModelFileError, MissingTableError.

    Answers of the baseline, and those given while the online store was away, are not of the lake's features.
    """
    found = [_day(product, platform, day) for day in days]
    platform.lake.replace_days(LAYER, serving_skew_table(product.name), _table(found), days)
    return found


def _day(product: ModelProduct, platform: Platform, day: date) -> DaySkew:
    limits, logged = product.monitoring.serving_skew, logged_rows(product, platform, [day])
    if logged is None:
        return DaySkew(day, 0, 0, (), limits)
    sampled = sample_rows(of_models(logged), limits.sample_rows, product.training.seed)
    rows = sampled.filter(~hides_request())
    if not len(rows):
        return DaySkew(day, 0, len(sampled), (), limits)
    compared = vector_differences(
        _beside_the_lake(product, platform, rows), _views(product, platform), limits.tolerance
    )
    worst_first = sorted(compared, key=lambda each: (-each.differing_share, -each.behind_share, each.feature))
    return DaySkew(day, len(rows), len(sampled) - len(rows), tuple(worst_first), limits)


def _beside_the_lake(product: ModelProduct, platform: Platform, rows: pl.DataFrame) -> pl.DataFrame:
    """What was logged, with the numbers that the same models would get from the lake as of the same moments."""
    asked = rows.select(
        *(pl.col(REQUEST + name).alias(name) for name in product.population.request),
        pl.col("at").alias(EVENT_TIMESTAMP),
    )
    job = historical_features(open_store(platform.environment), asked, service_name(product))
    lake = job.to_polars(with_timestamps=True)
    views = [group.name for group in platform.project.table_groups(product) if AGE_COLUMN + group.name in rows.columns]
    features = [name.removeprefix(FEATURE) for name in rows.columns if name.startswith(FEATURE)]
    beside = rows.select(
        pl.format("{}.{}", "decision_id", "row").alias("name"),
        "at",
        "answered_at",
        *(pl.col(FEATURE + name).alias(LOGGED + name) for name in features),
        *(pl.col(AGE_COLUMN + view).alias(AGE + view) for view in views),
    ).hstack([lake[view + TIMESTAMP_SUFFIX].alias(MOMENT + view) for view in views])
    parts = []
    for (version, digest), part in rows.with_row_index("place").group_by("model_version", "model_digest"):
        places = part["place"]
        contract = load_model(
            Path(platform.environment.model_store) / product.name / str(version), str(digest)
        ).contract
        numbers = pl.DataFrame(feature_matrix(lake[places], contract), [LAKE + name for name in contract.features])
        parts.append(beside[places].hstack(numbers))
    return pl.concat(parts, how="diagonal")


def _views(product: ModelProduct, platform: Platform) -> Mapping[str, Sequence[str]]:
    """Each feature with the views that it comes from; a request feature with those whose features it uses."""
    tables = {name: [group.name] for group in platform.project.table_groups(product) for name in group.types}
    computed = {name: list(group.uses) for group in platform.project.request_groups(product) for name in group.types}
    return tables | computed


def _table(found: Sequence[DaySkew]) -> pl.DataFrame:
    rows = [
        {
            DAY: report.day,
            "feature": each.feature,
            "rows": each.rows,
            "differing_share": each.differing_share,
            "behind_share": each.behind_share,
            "is_past": report.is_told and report.is_past(each),
            "example": each.example,
        }
        for report in found
        for each in report.features
    ]
    return pl.DataFrame(rows, schema=_COLUMNS)
