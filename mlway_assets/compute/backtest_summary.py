"""What replayed policies have brought, beside the one that never trains again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from configs.products import ModelProduct
from mlway_assets.compute.backtest import Replay
from mlway_assets.compute.drift_judgement import DAY
from mlway_assets.compute.improvement import Better, improvement
from mlway_assets.compute.measurement import Measured, metrics_of, scored_rows
from mlway_assets.compute.quality import compare_days, quality_by_day

CONFIDENCE = 0.95
_SAMPLES = 2000
_LOOKED_AHEAD, _LOOKED_BACK = 14, 42
_WORSE_BY, _P_VALUE = 0.05, 0.001
_FOUND_WITHIN = timedelta(days=28)
_SAME_ALARM = timedelta(days=3)


@dataclass(frozen=True)
class Outcome:
    """One policy: how good its champions were over all days, and what that took."""

    policy: str
    triggers: tuple[str, ...]
    metrics: Mapping[str, float]
    by_day: Mapping[date, float]
    """The watched metric."""
    better: Better
    """Than the policy that never trains again, in the watched metric."""
    trainings: int
    promotions: int
    seconds: float
    """Of training, each training counted for every policy that opened it."""
    alarms: int
    false_alarms: int
    detection_days: Mapping[date, int | None]
    """For each real shift: days until the first alarm, None where none came within four weeks. Empty for a policy that
    watches nothing.
    """
    shifts: Sequence[date]


def summarize(product: ModelProduct, replays: Sequence[Replay], never: Replay) -> list[Outcome]:
    """The outcome of each. Raises OneClassError, NothingToRankError, RelevanceError."""
    reference = scored_rows(product, never.rows)
    shifts = real_shifts(product, never)
    return [_outcome(product, replay, reference, shifts) for replay in replays]


def real_shifts(product: ModelProduct, never: Replay) -> list[date]:
    """The first days of times that, seen afterwards, were worse for a model that stayed: with all labels, by two weeks.

    The watched metric over the 14 days from such a day on is more than 5% worse than over the 42 days before, and that
    by chance with p < 0.001 (Welch). A shift that begins within four weeks of another is part of it.
    """
    by_day = _by_day(product, never)
    days, values = list(by_day), list(by_day.values())
    found: list[date] = []
    for at in range(_LOOKED_BACK, len(days) - 2):
        comparison = compare_days(
            values[at - _LOOKED_BACK : at],
            values[at : at + _LOOKED_AHEAD],
            is_lower_better=product.is_watched_metric_lower_better,
            allowed=_WORSE_BY,
        )
        is_shift = comparison is not None and comparison.p_value < _P_VALUE
        if is_shift and (not found or days[at] - found[-1] > _FOUND_WITHIN):
            # The two weeks see a shift before it comes: it begins with the first of them that is worse than before.
            found.append(_first_worse(product, days[at : at + _LOOKED_AHEAD], values, at))
    return found


def _first_worse(product: ModelProduct, days: Sequence[date], values: Sequence[float], at: int) -> date:
    before = np.asarray(values[at - _LOOKED_BACK : at])
    sign = 1 if product.is_watched_metric_lower_better else -1
    limit = sign * before.mean() + before.std(ddof=1)
    coming = values[at : at + len(days)]
    return next((day for day, value in zip(days, coming, strict=True) if sign * value > limit), days[0])


def _outcome(product: ModelProduct, replay: Replay, reference: Measured, shifts: Sequence[date]) -> Outcome:
    rows = scored_rows(product, replay.rows)
    asked = product.monitoring.quality.metric or product.gate.metric
    better = improvement(
        asked,
        replay.rows[DAY],
        rows,
        reference,
        confidence=CONFIDENCE,
        samples=_SAMPLES,
        seed=product.training.seed,
        k=product.gate.k,
    )
    starts = _episodes(replay.alarms)
    false_alarms = [day for day in starts if not any(shift <= day <= shift + _FOUND_WITHIN for shift in shifts)]
    return Outcome(
        policy=replay.policy,
        triggers=replay.triggers,
        metrics=metrics_of(product, rows),
        by_day=_by_day(product, replay),
        better=better,
        trainings=len(replay.trainings),
        promotions=sum(training.is_promoted for training in replay.trainings),
        seconds=sum(training.seconds for training in replay.trainings),
        alarms=len(starts),
        false_alarms=len(false_alarms),
        detection_days={shift: _until_alarm(shift, replay.alarms) for shift in shifts if replay.is_watching},
        shifts=shifts,
    )


def _episodes(alarms: Sequence[date]) -> list[date]:
    """The first days of alarms that last; one that pauses for no more than three days goes on."""
    return [
        day
        for before, day in pairwise([None, *alarms])
        if day is not None and (before is None or day - before > _SAME_ALARM)
    ]


def _until_alarm(shift: date, alarms: Sequence[date]) -> int | None:
    """An alarm at the beginning of a day knows the days before it."""
    return next((int((day - shift).days) for day in alarms if shift < day <= shift + _FOUND_WITHIN), None)


def _by_day(product: ModelProduct, replay: Replay) -> dict[date, float]:
    metric = product.watched_metric
    return {each.day: each.metrics[metric] for each in quality_by_day(product, replay.rows) if metric in each.metrics}


def as_json(outcomes: Sequence[Outcome], replays: Sequence[Replay]) -> list[dict[str, Any]]:
    """Plain values, but for the days."""
    return [
        {
            "policy": outcome.policy,
            "triggers": outcome.triggers,
            "metrics": outcome.metrics,
            "better_than_never": {
                "metric": outcome.better.metric,
                "mean": outcome.better.mean,
                "low": outcome.better.low,
                "high": outcome.better.high,
                "interval_confidence": outcome.better.interval_confidence,
            },
            "trainings": outcome.trainings,
            "promotions": outcome.promotions,
            "training_seconds": outcome.seconds,
            "alarms": outcome.alarms,
            "false_alarms": outcome.false_alarms,
            "detection_days": {day.isoformat(): found for day, found in outcome.detection_days.items()},
            "opened": [
                {
                    "day": training.day.isoformat(),
                    "reasons": training.reasons,
                    "is_promoted": training.is_promoted,
                    "not_met": [rule.name for rule in training.broken],
                    "seconds": training.seconds,
                }
                for training in replay.trainings
            ],
        }
        for outcome, replay in zip(outcomes, replays, strict=True)
    ]
