"""The partitions of the graph: one for each event day."""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg

from configs.environments import Days
from mlway_assets.resources import Platform


def build_days(days: Days) -> dg.DailyPartitionsDefinition:
    """Every event day that the environment keeps: up to its last, or to today."""
    first = days.first.isoformat()
    if days.last is None:
        return dg.DailyPartitionsDefinition(start_date=first, timezone="UTC", end_offset=1)
    end = days.last + timedelta(days=1)
    return dg.DailyPartitionsDefinition(start_date=first, end_date=end.isoformat(), timezone="UTC")


def every_day(platform: Platform) -> tuple[date, ...]:
    """Every event day that the environment keeps, up to its last or to the clock's today."""
    declared = platform.environment.days
    last = declared.last or platform.clock.now().date()
    return tuple(declared.first + timedelta(days=n) for n in range((last - declared.first).days + 1))


def stretches(days: Sequence[date]) -> list[list[date]]:
    """`days` in order, cut wherever one is missing."""
    found: list[list[date]] = []
    for day in sorted(days):
        if found and day - found[-1][-1] == timedelta(days=1):
            found[-1].append(day)
        else:
            found.append([day])
    return found


def selected_days(context: dg.AssetExecutionContext) -> list[date]:
    """The days of this run, one or many."""
    return [date.fromisoformat(key) for key in context.partition_keys]


def range_tags(days: Sequence[date]) -> dict[str, str]:
    """Tags of one run over every day from the first to the last."""
    return {
        "dagster/asset_partition_range_start": min(days).isoformat(),
        "dagster/asset_partition_range_end": max(days).isoformat(),
    }
