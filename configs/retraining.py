"""When a product is trained again: what opens a training, and what keeps trainings apart."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from configs.schema import Duration, Frozen

Trigger = Literal["schedule", "new_data", "input_drift", "prediction_drift", "quality"]


class Retraining(Frozen):
    """Each of the triggers opens the same training, whose candidate must pass the same gate.

    Whatever asks, at most one training of a product runs or waits, `cooldown` lies between two, and no more than
    `weekly_budget` begin within seven days. Whoever asks, by `mlway retrain` or
    `POST {route}/train`, is held back by the first alone.
    """

    triggers: tuple[Trigger, ...] = Field(
        default=(),
        description="Left out: only people, by Dagster's page, `mlway materialize train`, `mlway retrain` "
        "or `POST {route}/train`.",
    )
    every_days: int = Field(
        default=7, ge=1, description="`schedule`: so long after the last training another is opened."
    )
    new_rows: int = Field(
        default=25_000, ge=1, description="`new_data`: so many more labelled rows than the last training had."
    )
    cooldown: Duration = Field(default=timedelta(days=3), description="Least time between two trainings.")
    weekly_budget: int = Field(default=2, ge=1, description="Most trainings within seven days.")
