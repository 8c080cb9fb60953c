"""Dagster's local instance: SQLite under the state folder, no telemetry, one run at a time."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mlway_assets.event_log import BATCH_SIZE
from mlway_assets.local.paths import LocalPaths

if TYPE_CHECKING:
    from dagster import DagsterInstance

PROCESS_TAG = "mlway/process"
"""Tag of a run made by the command line: the process that executes it."""


def dagster_variables(paths: LocalPaths) -> dict[str, str]:
    """The environment variables of every Dagster process."""
    return {"DAGSTER_HOME": str(paths.dagster_home), "DAGSTER_EVENT_BATCH_SIZE": str(BATCH_SIZE)}


def write_instance(paths: LocalPaths) -> None:
    """Write dagster.yaml."""
    home = paths.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    config = {
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        "run_storage": _storage("dagster._core.storage.runs", "SqliteRunStorage", home / "history"),
        "event_log_storage": _storage(
            "mlway_assets.event_log", "BatchedSqliteEventLogStorage", home / "history" / "runs"
        ),
        "schedule_storage": _storage("dagster._core.storage.schedules", "SqliteScheduleStorage", home / "schedules"),
        "concurrency": {"runs": {"max_concurrent_runs": 1}, "pools": {"default_limit": 1}},
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def open_instance(paths: LocalPaths, *, services_run: bool = True) -> "DagsterInstance":
    """The instance, with runs whose process was killed marked as failed.

    Of runs that the services started only these know the process; when none of them runs, none of those does.
    """
    write_instance(paths)
    os.environ.update(dagster_variables(paths))
    from dagster import DagsterInstance

    instance = DagsterInstance.get()
    close_abandoned_runs(instance, services_run=services_run)
    return instance


def close_abandoned_runs(instance: "DagsterInstance", *, services_run: bool) -> list[str]:
    """Mark runs as failed whose process no longer lives, and free what they held; gives their ids."""
    from dagster import DagsterRunStatus, RunsFilter

    closed = []
    statuses = [
        DagsterRunStatus.STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.CANCELING,
        DagsterRunStatus.NOT_STARTED,
    ]
    for run in instance.get_runs(RunsFilter(statuses=statuses)):
        process, _, started = run.tags.get(PROCESS_TAG, "").partition("@")
        if services_run if not process else _is_alive(int(process), float(started)):
            continue
        instance.report_run_failed(run, "Its process ended before the run did.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        closed.append(run.run_id)
    return closed


def process_tag() -> dict[str, str]:
    """Tag that names this process, by its id and start, since ids come again."""
    import psutil

    return {PROCESS_TAG: f"{os.getpid()}@{psutil.Process().create_time()}"}


def _is_alive(process: int, started: float) -> bool:
    from psutil import NoSuchProcess, Process

    try:
        return bool(abs(Process(process).create_time() - started) < 1)
    except NoSuchProcess:
        return False


def _storage(module: str, name: str, folder: Path) -> dict[str, object]:
    return {"module": module, "class": name, "config": {"base_dir": str(folder)}}
