"""Run the graph's jobs in this process, with progress, and know which of them are missing."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import TypeAdapter

from configs.errors import MlwayError
from mlway_assets.asset_keys import (
    MONITORED_KEYS,
    candidate_key,
    input_drift_report_key,
    online_store_key,
    predictions_key,
    registered_version_key,
    training_set_key,
)
from mlway_assets.assets.raw import UNREAD_DAYS
from mlway_assets.definitions import build_definitions
from mlway_assets.jobs import DAILY, INGEST, MONITOR, PREDICT, REPORT, TRAIN
from mlway_assets.local.instance import process_tag
from mlway_assets.partitions import every_day, range_tags, stretches
from mlway_assets.resources import Platform
from mlway_assets.retraining import REASON_TAG

if TYPE_CHECKING:
    from dagster import DagsterEvent, EventLogEntry
    from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

JOBS = (INGEST, TRAIN, PREDICT, MONITOR)
"""In their order; `daily` repeats parts of them."""
ASKED_FOR = (DAILY, REPORT)
"""What runs only where it is named."""
_KEYS = {
    TRAIN: (training_set_key, candidate_key, registered_version_key),
    PREDICT: (predictions_key,),
    MONITOR: MONITORED_KEYS,
    DAILY: (predictions_key, *MONITORED_KEYS),
    REPORT: (input_drift_report_key,),
}
"""Of a product, by the job that makes them."""
_SHARED_GROUPS = ("raw", "curated", "features")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunError(MlwayError):
    """A run of the graph failed. `broken_checks` are those that stopped it; without any a step has crashed."""

    def __init__(self, problem: str, broken_checks: Sequence[str] = ()) -> None:
        super().__init__(problem)
        self.broken_checks = tuple(broken_checks)


@dataclass(frozen=True)
class JobRun:
    """One job to run over some days, and for some products; none named means all."""

    job: str
    days: tuple[date, ...] = ()
    products: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def assets(self, graph: "BaseAssetGraph[Any]") -> list[dg.AssetKey] | None:
        """The assets that belong to the products named; None where the job's own selection holds."""
        if self.job == INGEST or not self.products:
            return None
        keys = [key(product) for product in self.products for key in _KEYS[self.job]]
        if self.job == DAILY:
            keys += [key for key in graph.get_all_asset_keys() if graph.get(key).group_name in _SHARED_GROUPS]
        return keys


def require_products(platform: Platform, products: Sequence[str]) -> None:
    """Raises RunError for an unknown product."""
    for product in products:
        if product not in platform.project.products:
            raise RunError(
                f"No model product is called {product!r}. Known: {', '.join(sorted(platform.project.products))}.\n"
                f"Hint: a product exists once configs/products/{product}.yaml does."
            )


def plan(
    platform: Platform,
    jobs: Sequence[str],
    first: date | None = None,
    last: date | None = None,
    products: Sequence[str] = (),
    *,
    reason: str = "mlway materialize train",
) -> list[JobRun]:
    """What to run for `jobs`, for all products or those named.

    By default `ingest` runs over every day, `predict` over the clock's, `monitor`, `daily` and `report` over the one
    before it. `reason` is recorded of a training.

    Raises RunError for a day that is not kept, and for an unknown product.
    """
    require_products(platform, products)
    runs = []
    for job in jobs:
        if job == TRAIN:
            runs.append(JobRun(job, products=tuple(products), tags={REASON_TAG: reason}))
            continue
        today = platform.clock.now().date()
        # Of the day before all is known; of today nothing but the forecast.
        yesterday = (today - timedelta(days=1),)
        days = {
            INGEST: every_day(platform),
            PREDICT: (today,),
            MONITOR: yesterday,
            DAILY: yesterday,
            REPORT: yesterday,
        }[job]
        if first or last:
            days = tuple(day for day in every_day(platform) if (first or day) <= day <= (last or day))
        if not days:
            raise RunError(
                f"No day lies between {first} and {last}.\nHint: this environment keeps {platform.environment.days}."
            )
        runs.append(JobRun(job, days, tuple(products)))
    return runs


def missing_jobs(platform: Platform, instance: dg.DagsterInstance, products: Sequence[str] | None = None) -> list[str]:
    """The jobs whose last asset is not there, for `products` or for all: what `up` has to build."""
    missing = [] if instance.get_latest_materialization_event(online_store_key()) else [INGEST]
    today = platform.clock.now().date().isoformat()
    for product in platform.project.products if products is None else products:
        if platform.registry.champion(product) is None and TRAIN not in missing:
            missing.append(TRAIN)
        if today not in instance.get_materialized_partitions(predictions_key(product)) and PREDICT not in missing:
            missing.append(PREDICT)
    return missing


def run_jobs(
    platform: Platform,
    instance: dg.DagsterInstance,
    runs: Sequence[JobRun],
    on_step: Callable[[str, str, str], None],
) -> float:
    """Run them in order; gives the seconds they took. `on_step` hears of each step that starts, succeeds or fails.

    Raises RunError with the reason of the first failure, and KeyboardInterrupt where SIGINT or SIGTERM ended one.
    """
    definitions, started = build_definitions(platform), perf_counter()
    for run in runs:
        _run_job(definitions, instance, run, on_step)
    return perf_counter() - started


def _run_job(
    definitions: dg.Definitions, instance: dg.DagsterInstance, run: JobRun, on_step: Callable[[str, str, str], None]
) -> None:
    result = _execute(definitions, instance, run, on_step, run.assets(definitions.resolve_asset_graph()))
    if result.success:
        return
    problem = f"{run.job} failed.\n{_reasons(result)}\nHint: the run {result.run_id} is in the Dagster UI."
    good = [day for day in run.days if day not in _unread_days(result, run.days)]
    if run.job == INGEST and good:
        _go_on_with(definitions, instance, good, on_step)
        problem += f"\nThe other {len(good)} days went on."
    raise RunError(problem, [found.check_name for found in _broken_checks(result)])


def _execute(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    run: JobRun,
    on_step: Callable[[str, str, str], None],
    selection: Sequence[dg.AssetKey] | None,
) -> dg.ExecuteInProcessResult:
    from dagster._core.utils import make_new_run_id

    run_id = make_new_run_id()

    def listen(entry: "EventLogEntry") -> None:
        event = entry.dagster_event
        if event is not None and event.step_key and (state := _STATES.get(event.event_type_value)):
            on_step(run.job, event.step_key, state)

    instance.add_event_listener(run_id, listen)
    with _kept_signals():
        result = definitions.resolve_job_def(run.job).execute_in_process(
            instance=instance,
            run_id=run_id,
            run_config=_QUIET,
            asset_selection=selection,
            tags=process_tag() | dict(run.tags) | (range_tags(run.days) if run.days else {}),
            raise_on_error=False,
        )
    if _is_interrupted(result):
        raise KeyboardInterrupt
    return result


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Dagster leaves SIGTERM with what SIGINT does, which is nothing in a shell's background."""
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, kept)


def _is_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a signal ended the run: Dagster makes a failure of it."""
    from dagster._core.events import RunFailureReason

    ended = [event for event in result.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE]
    return any(event.job_failure_data.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION for event in ended)


def _unread_days(result: dg.ExecuteInProcessResult, days: Sequence[date]) -> set[date]:
    """Days that a raw table could not be read for; all of them when anything else has failed."""
    unread: set[date] = set()
    for event in result.get_step_failure_events():
        reported = event.step_failure_data.user_failure_data
        if reported is None or UNREAD_DAYS not in reported.metadata:
            return set(days)
        named = TypeAdapter(list[date]).validate_python(reported.metadata[UNREAD_DAYS].value)
        unread.update(named)
    return unread


def _go_on_with(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    days: Sequence[date],
    on_step: Callable[[str, str, str], None],
) -> None:
    """Curate the days that were read; then, once, compute what is not kept by day."""
    graph = definitions.resolve_asset_graph()
    behind = [key for key in graph.get_all_asset_keys() if graph.get(key).group_name in ("curated", "features")]
    daily = [key for key in behind if graph.get(key).is_partitioned]
    parts = stretches(days)
    for number, stretch in enumerate(parts, start=1):
        selection = behind if number == len(parts) else daily
        result = _execute(definitions, instance, JobRun(INGEST, tuple(stretch)), on_step, selection)
        if not result.success:
            raise RunError(f"{INGEST} failed.\n{_reasons(result)}")


_STATES = {"STEP_START": "running", "STEP_SUCCESS": "done", "STEP_FAILURE": "failed", "STEP_SKIPPED": "skipped"}


def _reasons(result: dg.ExecuteInProcessResult) -> str:
    steps = [f"{event.step_key}: {_reason(event)}" for event in result.get_step_failure_events()]
    checks = [
        f"{found.check_name} of {found.asset_key.to_user_string()}: {found.description}"
        for found in _broken_checks(result)
    ]
    return "\n".join([*steps, *checks])


def _broken_checks(result: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    """Those that let nothing go on."""
    found = result.get_asset_check_evaluations()
    return [each for each in found if not each.passed and each.severity == dg.AssetCheckSeverity.ERROR]


def _reason(event: "DagsterEvent") -> str:
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return str(error.message).strip() if error is not None else "unknown"
