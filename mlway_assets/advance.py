"""Move the replayed time on, day by day, and run the graph as production would: the same jobs, the same decisions.

In production the machine's clock, the daily schedule and the sensors do what stands here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import takewhile

import dagster as dg

from configs.clock import ReplayedTime
from configs.errors import MlwayError
from configs.products import ModelProduct
from mlway_assets.jobs import DAILY, INGEST, TRAIN
from mlway_assets.local.graph import JobRun, RunError, run_jobs
from mlway_assets.resources import Platform
from mlway_assets.retraining import Decision, decide, waiting
from mlway_assets.rollout import desired_versions, open_serve_api, roll_out_versions
from serving.training_requests import TrainingRequests

OnStep = Callable[[str, str, str], None]
_MOST_RUNS = 50


class StandingClockError(MlwayError):
    """The environment's time cannot be moved on."""


class UnfinishedDayError(MlwayError):
    """Somebody ended what a day brings before it was done."""

    def __init__(self, day: date, run: JobRun) -> None:
        chosen = "".join(f" --product {name}" for name in run.products)
        super().__init__(
            f"{day} was interrupted: what {run.job} had not written yet is missing, a training in hand is not done.\n"
            f"Hint: `mlway materialize {run.job} --from {day} --to {day}{chosen}` makes up for it; triggers are heard "
            "again on the day after, with which `mlway advance` goes on."
        )


@dataclass(frozen=True)
class Trained:
    """One training: why, and what came of it."""

    product: str
    reasons: tuple[str, ...]
    version: int | None
    """The registered version; None where the candidate was refused or the training failed."""
    is_champion: bool
    problem: str | None
    """Why there is no version."""
    is_refused: bool = False
    """Whether a check said no, such as one of the gate; a training with a problem beside that has crashed."""

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a verdict."""
        return self.problem is not None and not self.is_refused


@dataclass(frozen=True)
class Mark:
    """What a check of a day warns of."""

    check: str
    """As in `quality of monitoring/flight_delay/quality`."""
    told: str

    def __str__(self) -> str:
        """Both."""
        return f"{self.check}: {self.told}"


@dataclass(frozen=True)
class DayDone:
    """A day that is over: what failed of its jobs, what its checks warn of, what was trained, what asked in vain, what
    endpoints took up.
    """

    day: date
    failure: str | None
    marks: tuple[Mark, ...]
    trained: tuple[Trained, ...]
    held_back: tuple[str, ...]
    rolled_out: tuple[str, ...]


def advance(platform: Platform, instance: dg.DagsterInstance, days: int, on_step: OnStep) -> Iterator[DayDone]:
    """Let `days` days pass, and give each as it is over.

    What fails stops its own day only: the champions stay, and the next day is tried. No sensor trains meanwhile.
    Raises StandingClockError, TimeIsMovedError, UnfinishedDayError.
    """
    clock = platform.clock
    if not isinstance(clock, ReplayedTime):
        raise StandingClockError(
            f"The environment {platform.environment.name!r} follows the machine's clock: time passes by itself.\n"
            "Hint: `clock: {kind: replay, at: ...}` is what can be moved on."
        )
    with clock.moving():
        for _ in range(days):
            day = clock.now().date()
            _require_kept(platform, day)
            clock.move_to(datetime.combine(day + timedelta(days=1), time(0), UTC))
            served = [name for name in platform.project.products if platform.registry.champion(name) is not None]
            # Without a champion there is nothing to score and to watch yet.
            run = JobRun(DAILY if served else INGEST, (day,), tuple(served))
            try:
                done = _day(platform, instance, run, on_step)
            except KeyboardInterrupt:
                raise UnfinishedDayError(day, run) from None
            yield done


def _require_kept(platform: Platform, day: date) -> None:
    last = platform.environment.days.last
    if last is not None and day > last:
        raise StandingClockError(
            f"{day} is after the last day of the environment {platform.environment.name!r}, {last}.\n"
            "Hint: there is nothing left to replay; a new state folder begins again."
        )


def _day(platform: Platform, instance: dg.DagsterInstance, run: JobRun, on_step: OnStep) -> DayDone:
    last = next((before.run_id for before in instance.get_runs(limit=1)), None)
    failure = None
    try:
        run_jobs(platform, instance, [run], on_step)
    except RunError as error:
        failure = str(error)
    trained, held_back, marks = [], [], _marks(instance, last)
    inbox = TrainingRequests(platform.environment.training_requests_folder)
    for name in run.products:
        decision = decide(platform.project.products[name], platform, instance, waiting(name, inbox, instance))
        if decision.reasons:
            trained.append(_train(platform.project.products[name], platform, instance, decision, on_step))
            inbox.remove(decision.requests)
        elif decision.held_back:
            held_back.append(f"{name}: {decision.held_back}")
    return DayDone(run.days[0], failure, tuple(marks), tuple(trained), tuple(held_back), tuple(_roll_out(platform)))


def _marks(instance: dg.DagsterInstance, last: str | None) -> list[Mark]:
    """What checks of the runs after the `last` one have warned of."""
    runs = list(takewhile(lambda run: run.run_id != last, instance.get_runs(limit=_MOST_RUNS)))
    wanted = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    entries = (entry for run in reversed(runs) for entry in instance.all_logs(run.run_id, of_type=wanted))
    return [
        Mark(f"{found.check_name} of {found.asset_key.to_user_string()}", (found.description or "").partition("\n")[0])
        for found in (entry.get_dagster_event().asset_check_evaluation_data for entry in entries)
        if not found.passed and found.severity == dg.AssetCheckSeverity.WARN
    ]


def _train(
    product: ModelProduct, platform: Platform, instance: dg.DagsterInstance, decision: Decision, on_step: OnStep
) -> Trained:
    before = _versions(product.name, platform)
    try:
        run_jobs(platform, instance, [JobRun(TRAIN, products=(product.name,), tags=decision.tags)], on_step)
    except RunError as error:
        is_refused = bool(error.broken_checks)
        return Trained(
            product.name, decision.reasons, None, is_champion=False, problem=str(error), is_refused=is_refused
        )
    new = sorted(_versions(product.name, platform) - before)
    champion = platform.registry.require_champion(product.name)
    return Trained(
        product.name, decision.reasons, new[-1] if new else None, bool(new) and champion.version == new[-1], None
    )


def _versions(product: str, platform: Platform) -> set[int]:
    return {int(found.version) for found in platform.registry.client.search_model_versions(f"name='{product}'")}


def _roll_out(platform: Platform) -> Sequence[str]:
    """What the sensor that follows the registry would do, now; nothing where no endpoint runs."""
    api = open_serve_api(platform)
    return roll_out_versions(platform, api, desired_versions(platform)) if api.is_up() else []
