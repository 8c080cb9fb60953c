"""Days whose rows came late: after `every_morning` had failed for want of them, so that nobody has scored them yet."""

from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from configs.products import ModelProduct
from mlway_assets.asset_keys import curated_key, predictions_key
from mlway_assets.partitions import every_day
from mlway_assets.resources import Platform

_TRIED_AFTER = time(6)
"""An hour after `every_morning`: what it has not brought by then it will not bring."""


def unscored_days(product: ModelProduct, platform: Platform, instance: dg.DagsterInstance) -> list[date]:
    """The days after the first that was scored that have come to the population's table since, and are not scored.

    Today is not over, and of yesterday `every_morning` takes care first.
    """
    scored = instance.get_materialized_partitions(predictions_key(product.name))
    if not scored:
        return []
    come, now = instance.get_materialized_partitions(curated_key(product.population.table)), platform.clock.now()
    over = [
        day
        for day in every_day(platform)
        if datetime.combine(day + timedelta(days=1), _TRIED_AFTER, UTC) <= now and day.isoformat() > min(scored)
    ]
    return [day for day in over if day.isoformat() in come and day.isoformat() not in scored]
