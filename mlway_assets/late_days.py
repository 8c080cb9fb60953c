"""Days whose rows came late: after `every_morning` had failed for want of them, so that nobody has scored them yet."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from configs.products import ModelProduct
from mlway_assets.asset_keys import curated_key, online_store_key, predictions_key
from mlway_assets.partitions import every_day
from mlway_assets.resources import Platform

_TRIED_AFTER = time(6)
"""An hour after `every_morning`: what it has not brought by then it will not bring."""


def unscored_days(product: ModelProduct, platform: Platform, instance: dg.DagsterInstance) -> Mapping[date, int]:
    """The days after the first that was scored that have come to the population's table since, and are not scored.

    Each with the number of the event by which it came. Today is not over, of yesterday `every_morning` takes care
    first, and a day that has not reached the features has not come.
    """
    scored = instance.get_materialized_partitions(predictions_key(product.name))
    filled = instance.get_latest_materialization_event(online_store_key())
    if not scored or filled is None:
        return {}
    come, now = instance.get_materialized_partitions(curated_key(product.population.table)), platform.clock.now()
    found, first, open_days = {}, min(scored), come - scored
    for day in every_day(platform):
        is_over = datetime.combine(day + timedelta(days=1), _TRIED_AFTER, UTC) <= now
        if is_over and day.isoformat() > first and day.isoformat() in open_days:
            came = _came(product, day, instance)
            if came is not None and came.timestamp < filled.timestamp:
                found[day] = came.storage_id
    return found


def _came(product: ModelProduct, day: date, instance: dg.DagsterInstance) -> dg.EventLogRecord | None:
    """The newest event by which the population's table has the day."""
    key = curated_key(product.population.table)
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day.isoformat()])
    return next(iter(instance.fetch_materializations(wanted, limit=1).records), None)
