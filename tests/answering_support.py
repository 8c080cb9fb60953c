"""An endpoint without HTTP and Ray: it answers as a replica does, and its answers are in the log of its platform."""

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import polars as pl
from tests_support import copy_of_state

from configs.clock import build_clock
from configs.environments import ReplayClock
from mlway_assets.decision_compaction import compact_decisions
from mlway_assets.resources import Platform
from serving.answering import Answering, Asked
from serving.decision_log import Decision, DecisionLog, open_decision_log
from serving.messages import Question
from serving.observation import Observer
from serving.predictor import Predictor, build_predictor

TODAY = date(2013, 2, 9)
"""Of the small platform's clock."""


class _Altering:
    """A log in which decisions stand otherwise than they were made."""

    def __init__(self, log: DecisionLog, alter: Callable[[Decision], Decision]) -> None:
        self._log, self._alter = log, alter

    def append(self, *decisions: Decision) -> None:
        self._log.append(*map(self._alter, decisions))


class _Quiet:
    """Nobody watches."""

    def answered(self, *_: Any) -> None: ...


def platform_with_endpoints(built: Platform, folder: Path) -> Platform:
    """A copy of the built lake and stores with the built models, and a decision log of its own."""
    copied = copy_of_state(built, folder)
    changed = {"model_store": built.environment.model_store}
    platform = Platform(copied.project, copied.environment.model_copy(update=changed))
    platform.__dict__["registry"] = built.registry
    return platform


def forget_decisions(platform: Platform) -> None:
    """Nobody was ever asked."""
    shutil.rmtree(platform.environment.decisions_folder, ignore_errors=True)
    for table in (platform.environment.state / "lake" / "raw").glob("decisions_*"):
        shutil.rmtree(table)


def at(platform: Platform, moment: datetime) -> Platform:
    """The platform at another time."""
    clock = ReplayClock(kind="replay", at=moment)
    seen = Platform(platform.project, platform.environment.model_copy(update={"clock": clock}))
    seen.__dict__["registry"] = platform.registry
    seen.__dict__["clock"] = build_clock(clock)
    return seen


def upcoming(platform: Platform, rows: int, product: str = "flight_delay", day: date = TODAY) -> pl.DataFrame:
    """Requests about the flights of a day."""
    population = platform.project.products[product].population
    flights = platform.lake.scan_days("curated", population.table, [day]).select(*population.request).collect()
    return flights.drop_nulls().sort(population.event_time, "carrier", "flight").head(rows)


def answer(
    platform: Platform,
    product: str,
    rows: pl.DataFrame,
    *,
    alter: Callable[[Decision], Decision] = lambda decision: decision,
    is_baseline: bool = False,
    is_one_request: bool = False,
    replica: str = "r1",
) -> None:
    """Answer each row as a request of its own, or all as one, and bring the log to the lake."""
    declared = platform.project.products[product]
    predictor = build_predictor(platform.project, platform.environment, declared)
    champion = platform.registry.require_champion(product)
    if not is_baseline:
        predictor.use(champion.version, champion.digest)
    log = open_decision_log(platform.project, platform.environment, declared, replica)
    questions = [rows] if is_one_request else list(rows.iter_slices(1))
    _ask(predictor, cast("DecisionLog", _Altering(log, alter)), product, questions)
    log.close()
    compact_decisions(declared, platform, datetime.now(UTC))


def _ask(predictor: Predictor, log: DecisionLog, product: str, questions: Sequence[pl.DataFrame]) -> None:
    answering = Answering(product, predictor, log, cast("Observer", _Quiet()))
    for rows in questions:
        asked = Asked(None, perf_counter())
        asked.question = Question(rows.to_dict(as_series=False))
        [body] = answering([asked])
        assert isinstance(body, bytes), body
