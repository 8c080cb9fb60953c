"""Sensors: new source data starts ingestion; a moved champion alias reaches the endpoints."""

from datetime import date

import dagster as dg

from configs.sources import FilesSource, Source, SqlSource
from mlway_assets.asset_keys import raw_key
from mlway_assets.resources import Platform
from mlway_assets.rollout import desired_versions, differences, open_serve_api, roll_out
from mlway_assets.sources.build import build_reader
from mlway_assets.sources.reading import Changes


def build_sensors(platform: Platform, days: dg.DailyPartitionsDefinition) -> dg.Definitions:
    """One sensor for every table that can change, and the one that keeps serving in step."""
    changing = [
        _new_data(source, table, days)
        for source in platform.project.sources.values()
        if isinstance(source, FilesSource | SqlSource)
        for table in source.tables
    ]
    return dg.Definitions(sensors=[*changing, _serving_follows_registry(platform)])


def _new_data(source: Source, table: str, days: dg.DailyPartitionsDefinition) -> dg.SensorDefinition:
    raw = dg.AssetSelection.assets(raw_key(table))

    @dg.sensor(
        name=f"new_{table}",
        target=raw.downstream() & dg.AssetSelection.groups("raw", "curated", "features"),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks for new or changed data of {table} in {source.name}.",
    )
    def new_data(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        changes = build_reader(source, table).changes(context.cursor or None)
        requests = _requests(changes, days)
        if not requests:
            context.update_cursor(changes.cursor)
            return dg.SkipReason("Nothing has changed.")
        return dg.SensorResult(run_requests=requests, cursor=changes.cursor)

    return new_data


def _requests(changes: Changes, days: dg.DailyPartitionsDefinition) -> list[dg.RunRequest]:
    if changes.has_snapshot_changed:
        return [dg.RunRequest()]
    return [dg.RunRequest(partition_key=day.isoformat()) for day in changes.days if _is_kept(day, days)]


def _is_kept(day: date, days: dg.DailyPartitionsDefinition) -> bool:
    return days.has_partition_key(day.isoformat())


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
        desired = desired_versions(platform)
        changed = differences(api, desired)
        if not changed:
            return dg.SkipReason("Every endpoint answers with its champion.")
        roll_out(platform, api, desired)
        return dg.SkipReason("Deployed " + "; ".join(changed) + ".")

    return serving_follows_registry
