"""Jobs and the daily schedule."""

from datetime import timedelta

import dagster as dg

from configs.clock import is_being_moved
from mlway_assets.resources import Platform

INGEST, TRAIN, PREDICT, MONITOR, DAILY, REPORT = "ingest", "train", "predict", "monitor", "daily", "report"


def build_jobs(platform: Platform, days: dg.DailyPartitionsDefinition) -> dg.Definitions:
    """`ingest` fills the lake and the feature store, `train` brings a model to the registry, `predict` scores days,
    `monitor` looks how far they have moved; `daily` does all of that but the training. `report` draws pages of it.
    """
    groups = dg.AssetSelection.groups
    ingest = dg.define_asset_job(
        INGEST,
        groups("raw", "curated", "features"),
        description="From the sources to the online store.",
        executor_def=dg.in_process_executor,
    )
    train = dg.define_asset_job(
        TRAIN,
        groups("models"),
        description="From the training set to a registered version.",
        executor_def=dg.in_process_executor,
    )
    predict = dg.define_asset_job(
        PREDICT,
        groups("predictions"),
        description="The champion's scores of the selected days.",
        executor_def=dg.in_process_executor,
    )
    monitor = dg.define_asset_job(
        MONITOR,
        groups("monitoring"),
        description="How far features and scores of the selected days have moved.",
        executor_def=dg.in_process_executor,
    )
    daily = dg.define_asset_job(
        DAILY,
        groups("raw", "curated", "features", "predictions", "monitoring"),
        description="All that a day that is over brings, but for training: from its rows to its monitoring.",
        executor_def=dg.in_process_executor,
    )
    report = dg.define_asset_job(
        REPORT,
        groups("reports"),
        description="Pages of pictures of how far the features of the selected days have moved.",
        executor_def=dg.in_process_executor,
    )
    schedules = [
        _schedule(platform, days, DAILY, "every_morning", "0 5 * * *", "Each morning: the day before"),
        # After every_morning, so that the day before is there.
        _schedule(platform, days, REPORT, "every_monday", "0 6 * * 1", "Each Monday: the days up to the one before"),
    ]
    return dg.Definitions(jobs=[ingest, train, predict, monitor, daily, report], schedules=schedules)


def _schedule(
    platform: Platform, days: dg.DailyPartitionsDefinition, job: str, name: str, cron: str, description: str
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        description=f"{description}, by the environment's clock.",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def day_before() -> dg.RunRequest | dg.SkipReason:
        if is_being_moved(platform.clock):
            return dg.SkipReason("`mlway advance` lets days pass, and runs their jobs itself.")
        day = (platform.clock.now() - timedelta(days=1)).date().isoformat()
        if not days.has_partition_key(day):
            return dg.SkipReason(f"{day} is not a day that this environment keeps.")
        return dg.RunRequest(run_key=day, partition_key=day)

    return day_before
