"""Whether a training is opened now: what asks for it, and what keeps trainings apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from configs.retraining import Retraining, Trigger

_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Asked:
    """The moment, how many rows have known labels by then, and which monitored metrics are past their limits."""

    now: datetime
    labelled_rows: int
    past: tuple[Trigger, ...] = ()


@dataclass(frozen=True)
class Last:
    """When each training so far began, oldest first, and how many labelled rows there were for the newest."""

    began: tuple[datetime, ...]
    labelled_rows: int


@dataclass(frozen=True)
class Opening:
    """Why a training is opened, each trigger with its figures; with none, why not."""

    reasons: tuple[str, ...]
    held_back: str | None = None
    """Triggers have asked, and this is why they were not heard."""


def opens_training(retraining: Retraining, asked: Asked, last: Last) -> Opening:
    """What opens a training now, by the product's triggers. Before the first training none does: people begin."""
    if not last.began:
        return Opening((), None)
    reasons = tuple(
        reason for trigger in retraining.triggers if (reason := _reason(trigger, retraining, asked, last)) is not None
    )
    if not reasons:
        return Opening(())
    held_back = _held_back(retraining, asked.now, last.began)
    return Opening((), f"{', '.join(reasons)}; {held_back}") if held_back else Opening(reasons)


def _reason(trigger: Trigger, retraining: Retraining, asked: Asked, last: Last) -> str | None:
    if trigger == "schedule":
        since = asked.now - last.began[-1]
        return f"schedule: {since.days} days" if since >= timedelta(days=retraining.every_days) else None
    if trigger == "new_data":
        more = asked.labelled_rows - last.labelled_rows
        return f"new_data: {more:,} more labelled rows" if more >= retraining.new_rows else None
    return trigger if trigger in asked.past else None


def _held_back(retraining: Retraining, now: datetime, began: Sequence[datetime]) -> str | None:
    if now - began[-1] < retraining.cooldown:
        return f"the last training began {now - began[-1]} ago, less than the cool-down of {retraining.cooldown}"
    within = [moment for moment in began if now - moment < _WEEK]
    if len(within) >= retraining.weekly_budget:
        return f"{len(within)} trainings began within a week, as many as the budget allows"
    return None
