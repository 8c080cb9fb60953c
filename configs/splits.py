"""Which rows a candidate learns from, and which it is judged by: parts in the order of their event times."""

from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from configs.schema import Frozen

Part = Literal["train", "validate", "test"]


class MovingParts(Frozen):
    """Parts that end now, in days: the newest are the test part, those before them validation, the rest training."""

    train_days: int | None = Field(default=None, ge=1, description="Left out: all days there are.")
    validate_days: int = Field(default=14, ge=1, description="Training stops early by these.")
    test_days: int = Field(default=28, ge=2, description="Candidate and champion are judged by these.")

    def at(self, now: datetime) -> "Split":
        """The parts of a training that begins now, judged by the newest rows."""
        judged_from = now - timedelta(days=self.test_days)
        train_until = judged_from - timedelta(days=self.validate_days)
        return Split(
            train_from=None if self.train_days is None else train_until - timedelta(days=self.train_days),
            train_until=train_until,
            validate_until=judged_from,
            test_until=now,
            judged="test",
        )


class Split(Frozen):
    """Time-ordered parts by event time: train before `train_until`, then validation, then test.

    The dates are those of the first training. A product that goes on learning has `moving` parts too: once the clock
    is past `validate_until`, they take the place of the dates.
    """

    train_until: AwareDatetime
    validate_until: AwareDatetime
    test_until: AwareDatetime
    train_from: AwareDatetime | None = Field(default=None, description="Left out: the first row there is.")
    judged: Literal["validate", "test"] = Field(
        default="validate",
        description="The part that the gate looks at. With `test`, its labels must be known when it ends.",
    )
    moving: MovingParts | None = Field(
        default=None, description="Once the clock is past `validate_until`: the parts, counted back from now."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.train_until < self.validate_until < self.test_until:
            raise ValueError("train_until < validate_until < test_until must hold")
        if self.train_from is not None and not self.train_from < self.train_until:
            raise ValueError("train_from < train_until must hold")
        return self

    def at(self, now: datetime) -> "Split":
        """The parts of a training that begins now: the dates, or those of `moving`, judged by the newest rows."""
        return self if self.moving is None or now <= self.validate_until else self.moving.at(now)

    def bounds(self, part: Part) -> tuple[datetime | None, datetime]:
        """Event times [from, until) of a part; without `train_from` the training part has no beginning."""
        return {
            "train": (self.train_from, self.train_until),
            "validate": (self.train_until, self.validate_until),
            "test": (self.validate_until, self.test_until),
        }[part]

    def needs_known_labels(self, part: Part) -> bool:
        """Whether a row counts only if its label was known when the part ended: not where the part is a mere report."""
        return part != "test" or self.judged == "test"
