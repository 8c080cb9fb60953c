"""Monitoring: how far each day's features and scores have moved from what the champion learned, and how good it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Generic, Protocol, TypeVar

import dagster as dg

from configs.load import Project
from configs.products import ModelProduct
from mlway_assets.asset_keys import (
    curated_key,
    features_key,
    input_drift_key,
    prediction_drift_key,
    predictions_key,
    quality_key,
    registered_version_key,
    training_set_key,
)
from mlway_assets.assets.raw import LAKE_POOL
from mlway_assets.checks import INPUT_DRIFT, PREDICTION_DRIFT, QUALITY, drift_check, quality_check
from mlway_assets.compute.drift_judgement import DayDrift
from mlway_assets.day_checks import LABELS, labels_check, unwatched_check
from mlway_assets.drift_monitoring import watch_inputs, watch_predictions
from mlway_assets.learned_rows import MissingReferenceError
from mlway_assets.partitions import selected_days
from mlway_assets.quality_monitoring import QualityReport, watch_quality
from mlway_assets.resources import Platform
from mlway_assets.retraining import DAYS_PAST


class Report(Protocol):
    """What a day's monitoring found."""

    @property
    def day(self) -> date:
        """The day, which ends a window of days."""
        ...

    @property
    def rows(self) -> int:
        """Rows of the window."""
        ...

    @property
    def is_within_limits(self) -> bool:
        """Whether nobody needs to be told."""
        ...


Found = TypeVar("Found", bound=Report)


@dataclass(frozen=True)
class _Watched(Generic[Found]):
    """What is watched of a product: by which function, and how what it finds is told."""

    key: dg.AssetKey
    deps: Sequence[dg.AssetKey]
    daily_deps: Sequence[dg.AssetKey]
    """Those by day: of the days that end with each, as many as `window_days`."""
    window_days: int
    description: str
    watch: Callable[[ModelProduct, Platform, Sequence[date]], Sequence[Found]]
    name: str
    check: Callable[[str, Found], dg.AssetCheckResult]
    marks: Mapping[str, Callable[[str, Found], dg.AssetCheckResult]] = field(default_factory=dict)
    """Further checks: what else somebody should see, though no limit is passed."""


def build_monitoring(project: Project, days: dg.PartitionsDefinition[str]) -> dg.Definitions:
    """The assets of every product."""
    return dg.Definitions(
        assets=[
            asset
            for product in project.products.values()
            for asset in (
                _asset(product, days, _inputs(product, project)),
                _asset(product, days, _scores(product)),
                _asset(product, days, _quality(product)),
            )
        ]
    )


def _inputs(product: ModelProduct, project: Project) -> _Watched[DayDrift]:
    groups = [features_key(group.name) for group in project.table_groups(product)]
    return _Watched(
        input_drift_key(product.name),
        [*_models(product), *groups],
        [curated_key(product.population.table)],
        product.monitoring.input_drift.window_days,
        f"How far the features of {product.name}'s newest days lie from those that the champion was trained on.",
        watch_inputs,
        INPUT_DRIFT,
        drift_check,
    )


def _scores(product: ModelProduct) -> _Watched[DayDrift]:
    return _Watched(
        prediction_drift_key(product.name),
        _models(product),
        [predictions_key(product.name)],
        product.monitoring.prediction_drift.window_days,
        f"How far the scores of {product.name}'s newest days lie from those of what the champion learned from.",
        watch_predictions,
        PREDICTION_DRIFT,
        drift_check,
    )


def _quality(product: ModelProduct) -> _Watched[QualityReport]:
    return _Watched(
        quality_key(product.name),
        _models(product),
        [predictions_key(product.name), curated_key(product.population.table)],
        product.monitoring.quality.window_days,
        f"How good {product.name}'s scores of the newest days were, by the labels that are known by now.",
        watch_quality,
        QUALITY,
        quality_check,
        {LABELS: labels_check},
    )


def _models(product: ModelProduct) -> list[dg.AssetKey]:
    return [training_set_key(product.name), registered_version_key(product.name)]


def _asset(product: ModelProduct, days: dg.PartitionsDefinition[str], watched: _Watched[Found]) -> dg.AssetsDefinition:
    described = {watched.name: "The newest day is within the product's limits. It stops nothing."}
    described |= dict.fromkeys(watched.marks, "What is missing to judge the newest days. It stops nothing.")
    specs = [dg.AssetCheckSpec(name, asset=watched.key, description=text) for name, text in described.items()]

    window = dg.TimeWindowPartitionMapping(
        start_offset=1 - watched.window_days, allow_nonexistent_upstream_partitions=True
    )

    @dg.asset(
        key=watched.key,
        deps=[*watched.deps, *(dg.AssetDep(key, partition_mapping=window) for key in watched.daily_deps)],
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="monitoring",
        owners=[product.owner],
        description=watched.description,
        kinds={"polars", "deltalake"},
        pool=LAKE_POOL,
        check_specs=specs,
    )
    def monitored(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        try:
            found = watched.watch(product, platform, selected_days(context))
        except MissingReferenceError as gone:
            return _unwatched(list(described), gone)
        newest = max(found, key=lambda report: report.day)
        past = [report.day.isoformat() for report in found if not report.is_within_limits]
        return dg.MaterializeResult(
            metadata={DAYS_PAST: dg.MetadataValue.json(past), "rows": dg.MetadataValue.int(newest.rows)},
            check_results=[
                watched.check(watched.name, newest),
                *(check(name, newest) for name, check in watched.marks.items()),
            ],
        )

    return monitored


def _unwatched(checks: Sequence[str], gone: MissingReferenceError) -> dg.MaterializeResult:
    """No day is past a limit where there is none: the checks tell it, and no training is opened by it."""
    return dg.MaterializeResult(
        metadata={DAYS_PAST: dg.MetadataValue.json([]), "reference": dg.MetadataValue.text(str(gone))},
        check_results=[unwatched_check(name, gone) for name in checks],
    )
