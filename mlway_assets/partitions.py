"""The partitions of the graph: one for each event day."""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg

from configs.environments import Days


def build_days(days: Days) -> dg.DailyPartitionsDefinition:
    """Every event day that the environment keeps."""
    end = days.last + timedelta(days=1) if days.last else None
    return dg.DailyPartitionsDefinition(
        start_date=days.first.isoformat(), end_date=end.isoformat() if end else None, timezone="UTC"
    )


def selected_days(context: dg.AssetExecutionContext) -> list[date]:
    """The days of this run, one or many."""
    return [date.fromisoformat(key) for key in context.partition_keys]


def range_tags(days: Sequence[date]) -> dict[str, str]:
    """Tags of one run over every day from the first to the last."""
    return {
        "dagster/asset_partition_range_start": min(days).isoformat(),
        "dagster/asset_partition_range_end": max(days).isoformat(),
    }
