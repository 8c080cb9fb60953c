"""What a retraining policy would have gained: days replayed one by one, with nothing known before its time.

Each day begins with what was known at its midnight: labels that had become known, days whose labels had had their
time. A policy's triggers look at that, open a training, and the same gate as ever decides. The day's rows are then
scored by whoever is champion. Features are as of each row's own moment anyway. Rows that never get a label, such as
cancelled flights, are not among the days.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from time import perf_counter

import lightgbm
import polars as pl

from configs.errors import MlwayError
from configs.products import ModelProduct
from configs.retraining import Trigger
from configs.splits import MovingParts
from mlway_assets.compute.drift_judgement import DAY, Expectation, with_those_before
from mlway_assets.compute.gate import GateRule
from mlway_assets.compute.judgement import incumbent, judged_by
from mlway_assets.compute.measurement import SCORE, score_columns
from mlway_assets.compute.population import LABEL, LABEL_KNOWN_AT, part_of, query_columns
from mlway_assets.compute.quality import DayQuality, judge_days, quality_by_day
from mlway_assets.compute.slice_quality import Promise, promise_of
from mlway_assets.compute.training import train
from mlway_assets.compute.triggers import Asked, Last, opens_training
from serving.scoring import ScoringModel

POLICIES: dict[str, tuple[Trigger, ...]] = {
    "never": (),
    "weekly": ("schedule",),
    "drift": ("input_drift", "prediction_drift"),
    "quality": ("quality",),
}
"""Named by what opens a training."""
WATCHED: tuple[Trigger, ...] = ("input_drift", "prediction_drift", "quality")
"""Those that are monitored."""


class BacktestError(MlwayError):
    """Nothing can be replayed."""


@dataclass(frozen=True)
class Training:
    """A training that a policy opened: why, what its gate said, and what it took."""

    day: date
    reasons: tuple[str, ...]
    broken: tuple[GateRule, ...]
    seconds: float

    @property
    def is_promoted(self) -> bool:
        """Whether the candidate met every rule."""
        return not self.broken


@dataclass(frozen=True)
class Replay:
    """One policy's days: all rows with the scores of whoever was champion, its trainings, its alarms."""

    policy: str
    triggers: tuple[Trigger, ...]
    rows: pl.DataFrame
    trainings: tuple[Training, ...]
    alarms: tuple[date, ...]
    """Days at whose beginning a monitored metric was past its limits."""

    @property
    def is_watching(self) -> bool:
        """Whether anything monitored could have given an alarm."""
        return any(trigger in WATCHED for trigger in self.triggers)


@dataclass
class _Champion:
    """A model with what its monitoring compares with, each made when it is first asked for."""

    model: ScoringModel
    product: ModelProduct
    since: date
    trained_on: pl.DataFrame
    inputs: Expectation | None = None
    scores: Expectation | None = None
    promise: Promise | None = None
    seen: list[float] = field(default_factory=list)
    """The watched metric of its settled days."""
    newest: list[pl.DataFrame] = field(default_factory=list)
    """The last of these, with labels and scores."""
    settled_until: date | None = None


class Backtest:
    """The labelled rows of a product, to be replayed."""

    def __init__(
        self,
        product: ModelProduct,
        features: dict[str, str],
        rows: pl.DataFrame,
        unsettled: timedelta,
    ) -> None:
        """`rows` are labelled, with features, in order; `unsettled` as in Expectation.

        Raises BacktestError for a product without moving parts.
        """
        self._product, self._features, self._unsettled = product, features, unsettled
        self._moving = require_moving_parts(product)
        self._rows = rows.with_columns(pl.col(product.population.event_time).dt.date().alias(DAY))

    def replay(self, policy: str, triggers: tuple[Trigger, ...], first: date, last: date) -> Replay:
        """Replay every day from `first` to `last`. Raises OneClassError, NothingToRankError, RelevanceError."""
        champion, seconds = self._trained(first)
        trainings = [Training(first, ("first",), (), seconds)]
        alarms, scored = [], []
        for day in (first + timedelta(days=number) for number in range((last - first).days + 1)):
            reasons, is_alarm = self._reasons(champion, triggers, day, trainings)
            if is_alarm:
                alarms.append(day)
            if reasons:
                challenger, training = self._challenge(champion, day, reasons)
                trainings.append(training)
                champion = challenger if training.is_promoted else champion
            scored.append(self._scored(champion.model, self._rows.filter(pl.col(DAY) == day)))
        return Replay(policy, triggers, pl.concat(scored), tuple(trainings), tuple(alarms))

    def _challenge(self, champion: _Champion, day: date, reasons: Sequence[str]) -> tuple[_Champion, Training]:
        challenger, seconds = self._trained(day)
        judged = part_of(self._rows, challenger.product, challenger.product.training.split.judged)
        rules = judged_by(
            challenger.product, judged, challenger.model, incumbent(self._product, judged, champion.model)
        )
        broken = tuple(rule for rule in rules if not rule.is_met)
        return challenger, Training(day, tuple(reasons), broken, seconds)

    def _trained(self, day: date) -> tuple[_Champion, float]:
        """A model of what is known as the day begins, and the seconds that it took to train."""
        began, product = perf_counter(), self._at(day)
        known = self._rows.filter(pl.col(LABEL_KNOWN_AT) <= product.training.split.test_until)
        found = train(product, self._features, known)
        main, *bounds = (lightgbm.Booster(model_str=text) for text in (found.model_text, *(found.bounds or ())))
        model = ScoringModel(main, found.contract, digest="", bounds=(bounds[0], bounds[1]) if bounds else None)
        seconds = perf_counter() - began
        return _Champion(model, product, day, part_of(self._rows, product, "train")), seconds

    def _at(self, day: date) -> ModelProduct:
        return self._product.with_split(self._moving.at(_midnight(day)))

    def _known(self, day: date) -> int:
        """Rows whose labels are known when the day begins."""
        return int((self._rows[LABEL_KNOWN_AT] <= _midnight(day)).sum())

    def _reasons(
        self, champion: _Champion, triggers: Sequence[Trigger], day: date, trainings: Sequence[Training]
    ) -> tuple[list[str], bool]:
        """What opens a training as the day begins, and whether a monitored metric is past its limits."""
        ways = (self._has_input_drift, self._has_prediction_drift, self._is_worse)
        found = [
            trigger
            for trigger, is_past in zip(WATCHED, ways, strict=True)
            if trigger in triggers and is_past(champion, day)
        ]
        last = Last(tuple(_midnight(each.day) for each in trainings), self._known(trainings[-1].day))
        asked = Asked(_midnight(day), self._known(day), tuple(found))
        retraining = self._product.retraining.model_copy(update={"triggers": tuple(triggers)})
        return list(opens_training(retraining, asked, last).reasons), bool(found)

    def _has_input_drift(self, champion: _Champion, day: date) -> bool:
        limits = self._product.monitoring.input_drift
        columns = [DAY, *champion.model.contract.features]
        if champion.inputs is None:
            champion.inputs = Expectation(champion.trained_on.select(columns), limits, self._unsettled)
        yesterday = day - timedelta(days=1)
        window = self._days(with_those_before([yesterday], limits.window_days)).select(columns)
        return not champion.inputs.held_against(window, [yesterday])[0].is_within_limits

    def _has_prediction_drift(self, champion: _Champion, day: date) -> bool:
        limits = self._product.monitoring.prediction_drift
        if champion.scores is None:
            expected = pl.concat([champion.trained_on, part_of(self._rows, champion.product, "validate")])
            champion.scores = Expectation(self._only_score(champion, expected), limits, self._unsettled)
        yesterday = day - timedelta(days=1)
        window = self._days(with_those_before([yesterday], limits.window_days))
        # Only its own answers: what a former champion said of these days says nothing of this one.
        window = window.filter(pl.col(DAY) >= champion.since)
        return not champion.scores.held_against(self._only_score(champion, window), [yesterday])[0].is_within_limits

    def _only_score(self, champion: _Champion, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(DAY, pl.Series(SCORE, champion.model.score(rows), dtype=pl.Float64))

    def _is_worse(self, champion: _Champion, day: date) -> bool:
        """Whether its settled days, or a slice of the newest, are worse than it promised: what production asks too."""
        limits, product = self._product.monitoring.quality, self._product
        if champion.promise is None:
            judged = part_of(self._rows, champion.product, champion.product.training.split.judged)
            champion.promise = promise_of(product, self._with_scores(champion.model, judged))
        self._settle(champion, day)
        window = limits.window_days
        verdict = judge_days(
            self._values(champion.promise.days),
            champion.seen[:-window],
            champion.seen[-window:],
            limits,
            is_lower_better=product.is_watched_metric_lower_better,
            seed=product.training.seed,
        )
        if not verdict.is_within_limits:
            return True
        slices = champion.promise.slices.held_against(pl.concat(champion.newest)) if champion.newest else []
        return any(each.is_past for each in slices)

    def _settle(self, champion: _Champion, day: date) -> None:
        """Score the days whose labels have had their time since it was last asked."""
        limits = self._product.monitoring.quality
        settled_until = (_midnight(day) - limits.label_delay).date() - timedelta(days=1)
        begin = champion.since if champion.settled_until is None else champion.settled_until + timedelta(days=1)
        if begin > settled_until:
            return
        days = [begin + timedelta(days=number) for number in range((settled_until - begin).days + 1)]
        known = self._days(days).filter(pl.col(LABEL_KNOWN_AT) <= _midnight(day))
        champion.settled_until = settled_until
        if not len(known):
            return
        scored = self._with_scores(champion.model, known)
        champion.seen += self._values(quality_by_day(self._product, scored))
        champion.newest = [*champion.newest, *scored.partition_by(DAY, maintain_order=True)][-limits.window_days :]

    def _values(self, days: Sequence[DayQuality]) -> list[float]:
        metric = self._product.watched_metric
        return [each.metrics[metric] for each in days if metric in each.metrics]

    def _with_scores(self, model: ScoringModel, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(score_columns(model.scores(rows)))

    def _scored(self, model: ScoringModel, rows: pl.DataFrame) -> pl.DataFrame:
        """The day, the label, in a ranking the query, and the scores."""
        kept = [DAY, LABEL, *query_columns(self._product)]
        return rows.select(kept).with_columns(score_columns(model.scores(rows)))

    def _days(self, days: Sequence[date]) -> pl.DataFrame:
        return self._rows.filter(pl.col(DAY).is_between(min(days), max(days)))


def require_moving_parts(product: ModelProduct) -> MovingParts:
    """The parts that move with the clock. Raises BacktestError for a product without them."""
    moving = product.training.split.moving
    if moving is None:
        raise BacktestError(
            f"{product.name} learns from parts between fixed dates, so that a later training would repeat itself.\n"
            f"Hint: declare `training.split.moving` in products/{product.name}.yaml."
        )
    return moving


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
