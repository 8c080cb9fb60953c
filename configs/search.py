"""Which parameters a training may try, and how the tries are compared: `training.search` of a product."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.schema import Frozen

Value = int | float | str | bool


class _Range(Frozen):
    """Numbers between two others, both included."""

    low: float
    high: float
    log: bool = Field(default=False, description="Whether the logarithm is drawn: for values over several magnitudes.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _require_order(self.low, self.high, is_log=self.log)
        return self

    def holds(self, value: Value) -> bool:
        """Whether it may be drawn."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high


class FloatRange(_Range):
    """A number between two others, both included."""

    kind: Literal["float"]


class IntRange(_Range):
    """A whole number between two others, both included."""

    kind: Literal["int"]
    low: int
    high: int

    def holds(self, value: Value) -> bool:
        """Whether it may be drawn."""
        return isinstance(value, int) and super().holds(value)


class Choice(Frozen):
    """One of several values."""

    kind: Literal["choice"]
    values: tuple[Value, ...] = Field(min_length=2)

    def holds(self, value: Value) -> bool:
        """Whether it may be drawn."""
        return value in self.values


SearchRange = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]


class Folds(Frozen):
    """Time-ordered cross-validation within the training part: each fold learns from all that lies before its days.

    The last fold's days are the newest of the training part, those of the fold before lie before them, and so on.
    """

    number: int = Field(default=3, ge=1, le=20)
    validate_days: int = Field(default=14, ge=1, description="Each fold is validated on the days that follow it.")


class Pruning(Frozen):
    """A trial ends after a fold in which its mean so far is worse than the median of the trials that came that far."""

    first_trials: int = Field(default=5, ge=1, description="So many trials must have ended before one is pruned.")
    first_folds: int = Field(default=1, ge=1, description="No trial is pruned before it has had so many folds.")


class Search(Frozen):
    """Tries of the declared parameters' values before each training, compared by the gate's metric over folds.

    Validation and test part are not touched. A product without it trains with its declared parameters.
    """

    trials: int = Field(
        ge=2, le=10_000, description="How many sets of parameters are tried; the declared one is first."
    )
    space: dict[str, SearchRange] = Field(
        min_length=1, description="Values to try, by the name of LightGBM's parameter."
    )
    folds: Folds = Folds()
    pruning: Pruning | None = Pruning()
    trials_at_once: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="So many are chosen together, by what was found before, and may run side by side. The same number "
        "gives the same choices on one core or a hundred.",
    )


def _require_order(low: float, high: float, *, is_log: bool) -> None:
    if not low < high:
        raise ValueError("low < high must hold")
    if is_log and not low > 0:
        raise ValueError("`log` needs a `low` above 0")
