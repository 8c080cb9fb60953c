"""Monitoring: what each day says of the champion and of the endpoint, each as an asset with a check."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, Protocol, TypeVar

import dagster as dg

from configs.load import Project
from configs.products import ModelProduct
from mlway_assets.asset_keys import (
    curated_key,
    decisions_key,
    feature_freshness_key,
    features_key,
    input_drift_key,
    prediction_drift_key,
    predictions_key,
    quality_key,
    registered_version_key,
    served_quality_key,
    service_health_key,
    serving_skew_key,
    training_set_key,
)
from mlway_assets.assets.raw import LAKE_POOL
from mlway_assets.checks import (
    FEATURE_FRESHNESS,
    INPUT_DRIFT,
    PREDICTION_DRIFT,
    QUALITY,
    SERVED_QUALITY,
    SERVICE_HEALTH,
    SERVING_SKEW,
    drift_check,
)
from mlway_assets.day_checks import LABELS, labels_check, unwatched_check
from mlway_assets.drift_monitoring import watch_inputs, watch_predictions
from mlway_assets.feature_freshness import watch_freshness
from mlway_assets.learned_rows import MissingReferenceError
from mlway_assets.partitions import selected_days
from mlway_assets.quality_checks import quality_check
from mlway_assets.quality_monitoring import watch_quality
from mlway_assets.resources import Platform
from mlway_assets.retraining import DAYS_PAST
from mlway_assets.served_quality import watch_served_quality
from mlway_assets.service_health import watch_health
from mlway_assets.serving_checks import freshness_check, health_check, serving_skew_check
from mlway_assets.serving_skew import watch_serving_skew
from mlway_assets.suspicions import drifted_features, report_command


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
    """What is watched of a product: by which function, from what, and how what it finds is told."""

    name: str
    """Of the check."""
    key: dg.AssetKey
    description: str
    watch: Callable[[ModelProduct, Platform, Sequence[date]], Sequence[Found]]
    check: Callable[[str, Found], dg.AssetCheckResult]
    deps: Sequence[dg.AssetKey]
    daily_deps: Sequence[dg.AssetKey] = ()
    """Those by day: of the days that end with each, as many as `window_days`."""
    window_days: int = 1
    marks: Mapping[str, Callable[[str, Found], dg.AssetCheckResult]] = field(default_factory=dict)
    """Further checks: what else somebody should see, though no limit is passed."""
    suspected: Callable[[ModelProduct, Platform, date], str] | None = None
    """What is said of a breach beside."""


def build_monitoring(project: Project, days: dg.PartitionsDefinition[str]) -> dg.Definitions:
    """The assets of every product."""
    return dg.Definitions(
        assets=[
            _asset(product, days, watched)
            for product in project.products.values()
            for watched in (*_by_the_lake(product, project), *_by_the_decision_log(product, project))
        ]
    )


def _by_the_lake(product: ModelProduct, project: Project) -> list[_Watched[Any]]:
    """What each day's rows, scores and labels say of the champion."""
    models, limits = [training_set_key(product.name), registered_version_key(product.name)], product.monitoring
    return [
        _Watched(
            INPUT_DRIFT,
            input_drift_key(product.name),
            f"How far the features of {product.name}'s newest days lie from those that the champion was trained on.",
            watch_inputs,
            drift_check,
            [*models, *_features(product, project)],
            [curated_key(product.population.table)],
            limits.input_drift.window_days,
            suspected=report_command,
        ),
        _Watched(
            PREDICTION_DRIFT,
            prediction_drift_key(product.name),
            f"How far the scores of {product.name}'s newest days lie from those of what the champion learned from.",
            watch_predictions,
            drift_check,
            models,
            [predictions_key(product.name)],
            limits.prediction_drift.window_days,
            suspected=drifted_features,
        ),
        _Watched(
            QUALITY,
            quality_key(product.name),
            f"How good {product.name}'s scores of the newest days were, by the labels that are known by now.",
            watch_quality,
            quality_check,
            models,
            [predictions_key(product.name), curated_key(product.population.table)],
            limits.quality.window_days,
            {LABELS: labels_check},
            drifted_features,
        ),
    ]


def _by_the_decision_log(product: ModelProduct, project: Project) -> list[_Watched[Any]]:
    """What each day's answers say of the endpoint."""
    decisions = decisions_key(product.name)
    return [
        _Watched(
            SERVED_QUALITY,
            served_quality_key(product.name),
            f"How good {product.name}'s answers of the newest days were, by the labels that are known by now.",
            watch_served_quality,
            quality_check,
            [training_set_key(product.name), registered_version_key(product.name), decisions],
            [curated_key(product.population.table)],
            product.monitoring.quality.window_days,
            {LABELS: labels_check},
            drifted_features,
        ),
        _Watched(
            SERVING_SKEW,
            serving_skew_key(product.name),
            f"How far what {product.name}'s answers of a day were made from lies from what the lake knew then.",
            watch_serving_skew,
            serving_skew_check,
            [decisions, *_features(product, project)],
        ),
        _Watched(
            FEATURE_FRESHNESS,
            feature_freshness_key(product.name),
            f"How old the values were that {product.name}'s answers of a day were made from, group by group.",
            watch_freshness,
            freshness_check,
            [decisions, *_features(product, project)],
        ),
        _Watched(
            SERVICE_HEALTH,
            service_health_key(product.name),
            f"How many requests {product.name}'s endpoint had on a day, and how it answered them.",
            watch_health,
            health_check,
            [decisions],
        ),
    ]


def _features(product: ModelProduct, project: Project) -> list[dg.AssetKey]:
    return [features_key(group.name) for group in project.table_groups(product)]


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
        checked = watched.check(watched.name, newest)
        if watched.suspected is not None and not checked.passed:
            said = f"{checked.description} {watched.suspected(product, platform, newest.day)}"
            checked = checked._replace(description=said)
        return dg.MaterializeResult(
            metadata={DAYS_PAST: dg.MetadataValue.json(past), "rows": dg.MetadataValue.int(newest.rows)},
            check_results=[checked, *(check(name, newest) for name, check in watched.marks.items())],
        )

    return monitored


def _unwatched(checks: Sequence[str], gone: MissingReferenceError) -> dg.MaterializeResult:
    """No day is past a limit where there is none: the checks tell it, and no training is opened by it."""
    return dg.MaterializeResult(
        metadata={DAYS_PAST: dg.MetadataValue.json([]), "reference": dg.MetadataValue.text(str(gone))},
        check_results=[unwatched_check(name, gone) for name in checks],
    )
