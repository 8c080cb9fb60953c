"""Sensors: new source data starts ingestion; late days are scored; triggers and people open trainings; a moved alias
reaches endpoints.
"""

import hashlib
from collections.abc import Sequence
from datetime import date

import dagster as dg

from configs.clock import is_being_moved
from configs.products import ModelProduct
from configs.sources import FilesSource, Source, SqlSource
from mlway_assets.asset_keys import MONITORED_KEYS, predictions_key, raw_key
from mlway_assets.assets.raw import SOURCE_CURSOR
from mlway_assets.declared_tables import curated_tables
from mlway_assets.jobs import DAILY, TRAIN
from mlway_assets.late_days import unscored_days
from mlway_assets.local.instance import close_abandoned_runs
from mlway_assets.partitions import every_day, range_tags, stretches
from mlway_assets.resources import Platform
from mlway_assets.retraining import Decision, decide, join_training, training_assets, waiting
from mlway_assets.rollout import desired_versions, open_serve_api, roll_out_versions
from mlway_assets.sources.build import build_reader
from mlway_assets.sources.reading import Changes
from serving.training_requests import TrainingRequests


def build_sensors(platform: Platform, days: dg.DailyPartitionsDefinition) -> dg.Definitions:
    """One sensor for every table that can change, and the one that keeps serving in step."""
    changing = [
        _new_data(source, table, platform, days)
        for source in platform.project.sources.values()
        if isinstance(source, FilesSource | SqlSource)
        for table in source.tables
    ]
    retraining = [_retrain(product, platform) for product in platform.project.products.values()]
    return dg.Definitions(sensors=[*changing, *retraining, _late_days(platform), _serving_follows_registry(platform)])


def _new_data(
    source: Source, table: str, platform: Platform, days: dg.DailyPartitionsDefinition
) -> dg.SensorDefinition:
    raw = dg.AssetSelection.assets(raw_key(table))
    is_partitioned = source.tables[table].is_partitioned

    @dg.sensor(
        name=f"new_{table}",
        target=raw.downstream() & dg.AssetSelection.groups("raw", "curated", "features"),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks for new or changed data of {table} in {source.name}.",
    )
    def new_data(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        changes = build_reader(source, table).changes(context.cursor or _seen(context.instance, table))
        kept = [day for day in changes.days if days.has_partition_key(day.isoformat())]
        if context.cursor is None and is_partitioned:
            # The first look: what is in the lake already has been seen.
            done = context.instance.get_materialized_partitions(raw_key(table))
            kept = [day for day in kept if day.isoformat() not in done]
        wanted = every_day(platform) if changes.has_snapshot_changed else kept
        # A day that the platform does not keep yet stays news: the cursor waits for it.
        is_all_taken = not changes.days or max(changes.days) <= max(every_day(platform))
        cursor = changes.cursor if is_all_taken else context.cursor
        if not wanted:
            return dg.SensorResult(skip_reason="Nothing has changed.", cursor=cursor)
        return dg.SensorResult(run_requests=_requests(wanted, changes), cursor=cursor)

    return new_data


def _seen(instance: dg.DagsterInstance, table: str) -> str | None:
    """What the newest ingestion of a snapshot had seen of its source."""
    event = instance.get_latest_materialization_event(raw_key(table))
    if event is None or event.asset_materialization is None:
        return None
    seen = event.asset_materialization.metadata.get(SOURCE_CURSOR)
    return None if seen is None else str(seen.value)


def _requests(days: Sequence[date], changes: Changes) -> list[dg.RunRequest]:
    """One run for each stretch of days without a gap; asked for again, it is not run again."""
    state = hashlib.sha256(changes.cursor.encode()).hexdigest()[:16]
    return [
        dg.RunRequest(run_key=f"{state} {stretch[0]} {stretch[-1]}", tags=range_tags(stretch))
        for stretch in stretches(days)
    ]


def _late_days(platform: Platform) -> dg.SensorDefinition:
    tables = curated_tables(platform.project)
    by_day = [each for each in platform.project.products.values() if tables[each.population.table].is_partitioned]

    @dg.sensor(
        name="late_days",
        job_name=DAILY,
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Scores and watches days whose rows came after every_morning, which failed for want of them. What "
        "fails is not tried again until the day is ingested anew.",
    )
    def late_days(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if is_being_moved(platform.clock):
            return dg.SensorResult(skip_reason="`mlway advance` lets days pass, and runs their jobs itself.")
        unscored = {product.name: unscored_days(product, platform, context.instance) for product in by_day}
        wanted = [
            dg.RunRequest(
                run_key=f"{name} {stretch[0]} {stretch[-1]} {max(days[day] for day in stretch)}",
                tags=range_tags(stretch),
                asset_selection=[key(name) for key in (predictions_key, *MONITORED_KEYS)],
            )
            for name, days in unscored.items()
            for stretch in stretches(list(days))
        ]
        return dg.SensorResult(
            run_requests=wanted, skip_reason=None if wanted else "Every day that has come is scored."
        )

    return late_days


def _retrain(product: ModelProduct, platform: Platform) -> dg.SensorDefinition:
    inbox = TrainingRequests(platform.environment.training_requests_folder)

    @dg.sensor(
        name=f"retrain_{product.name}",
        job_name=TRAIN,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Opens a training of {product.name} for whoever asks, and by its triggers: "
        f"{', '.join(product.retraining.triggers) or 'none are declared'}.",
    )
    def retrain(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # A training whose process was killed would be on its way for ever.
        close_abandoned_runs(context.instance, services_run=True)
        if is_being_moved(platform.clock):
            return dg.SensorResult(skip_reason="`mlway advance` lets days pass, and decides itself what is trained.")
        requests = waiting(product.name, inbox, context.instance)
        decision = decide(product, platform, context.instance, requests)
        if decision.reasons:
            asked = dg.RunRequest(
                run_key=_run_key(decision, platform),
                tags=decision.tags,
                asset_selection=training_assets(product.name),
            )
            return dg.SensorResult(run_requests=[asked])
        if decision.requests and join_training(decision, context.instance):
            inbox.remove(decision.requests)
        return dg.SensorResult(skip_reason=decision.held_back or "Nobody and nothing asks for a training.")

    return retrain


def _run_key(decision: Decision, platform: Platform) -> str:
    """The same for the same requests, or for triggers at the same moment of the platform's clock."""
    if decision.requests:
        ids = "".join(sorted(request.id for request in decision.requests))
        return f"{decision.product} {hashlib.sha256(ids.encode()).hexdigest()}"
    return f"{decision.product} {platform.clock.now().isoformat(timespec='minutes')}"


def _serving_follows_registry(platform: Platform) -> dg.SensorDefinition:
    @dg.sensor(
        name="serving_follows_registry",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Deploys each product's champion when its alias has moved, or when serving has restarted.",
    )
    def serving_follows_registry() -> dg.SkipReason:
        api = open_serve_api(platform)
        if not api.is_up():
            return dg.SkipReason("Ray Serve does not answer.")
        changed = roll_out_versions(platform, api, desired_versions(platform))
        if not changed:
            return dg.SkipReason("Every endpoint answers with its champion.")
        return dg.SkipReason("Deployed " + "; ".join(changed) + ".")

    return serving_follows_registry
