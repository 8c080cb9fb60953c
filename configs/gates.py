"""What a candidate must show before it is registered."""

from typing import Self

from pydantic import Field, model_validator

from configs.schema import Frozen
from configs.tasks import LOWER_IS_BETTER, Metric


class Range(Frozen):
    """Where a value must lie, both ends included."""

    minimum: float
    maximum: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.minimum <= self.maximum:
            raise ValueError("minimum <= maximum must hold")
        return self


class Improvement(Frozen):
    """By how much a candidate must be better than the champion, and how sure of that one must be.

    Whole days are drawn again and again from the judged ones, the same for both: rows of one day share its weather.
    """

    metric: Metric | None = Field(default=None, description="Left out, the gate's.")
    margin: float = Field(default=0.0, description="In the metric's own unit. Below zero: by how much it may be worse.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of the one-sided interval.")
    samples: int = Field(default=2000, ge=100, le=100_000, description="How often days are drawn.")


class Slices(Frozen):
    """No part of the rows may be served much worse than by the champion."""

    by: tuple[str, ...] = Field(min_length=1, description="Fields of the request or features, each value a slice.")
    minimum_rows: int = Field(default=500, ge=2, description="Smaller slices say nothing.")
    maximum_worsening: float = Field(default=0.03, ge=0, description="Of the gate's metric, in its own unit.")


class Calibration(Frozen):
    """Probabilities must be rates. A champion that is past a limit itself sets it for its challenger."""

    maximum_error: float = Field(default=0.05, gt=0, lt=1, description="Of the expected calibration error.")


class Fairness(Frozen):
    """No group may be served much worse than the others.

    A champion that is past a limit itself sets it for its challenger: better may replace bad.
    """

    by: tuple[str, ...] = Field(min_length=1, description="Fields of the request or features, each value a group.")
    minimum_rows: int = Field(default=500, ge=2, description="Smaller groups say nothing.")
    maximum_gap: float = Field(
        default=0.1, gt=0, description="Most by which the worst group's metric may lie behind the groups' mean."
    )
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="A score at least this high is an alarm, for the difference below."
    )
    maximum_opportunity_difference: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Binary: most by which the share of positives that is found may differ between two groups.",
    )


class Importance(Frozen):
    """Scores must be made of much the same as the champion's: where they are not, a source or a feature has changed."""

    maximum_shift: float = Field(
        gt=0,
        le=1,
        description="Most of all importance (mean absolute SHAP values, of both models on the same rows) that may lie "
        "with other features than the champion's.",
    )


class KnownCase(Frozen):
    """Rows of which people know what to expect."""

    name: str
    when: str = Field(description="Polars SQL over request fields and features.", examples=["late_departure > 60"])
    minimum: float | None = Field(default=None, description="Of their mean score.")
    maximum: float | None = Field(default=None, description="Of their mean score.")

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.minimum is None and self.maximum is None:
            raise ValueError("give `minimum` or `maximum`, or both")
        return self


class Behaviour(Frozen):
    """What must hold of the scores whatever the metric says."""

    increasing: tuple[str, ...] = Field(default=(), description="Features that must not lower a score as they grow.")
    decreasing: tuple[str, ...] = Field(default=(), description="Features that must not raise a score as they grow.")
    invariant: tuple[str, ...] = Field(default=(), description="Features that must not change a score.")
    tolerance: float = Field(default=0.0, ge=0, description="Most by which a score may go the wrong way.")
    rows: int = Field(default=200, ge=1, le=10_000, description="On so many rows each feature is moved.")
    cases: tuple[KnownCase, ...] = ()


class Cost(Frozen):
    """What a model may take at the endpoint."""

    maximum_megabytes: float = Field(default=50, gt=0, description="Of the model's files.")
    maximum_microseconds: float = Field(default=5_000, gt=0, description="Of the score of one row: the median.")


class Plausible(Frozen):
    """What is too good to be true is refused until a person has looked: it is mostly a leak."""

    maximum_improvement: float | None = Field(
        default=None, gt=0, description="Over the champion, in the gate's metric; left out, any."
    )
    maximum_importance: float | None = Field(
        default=None, gt=0, le=1, description="Most of the trees' gain that one feature alone may have; left out, all."
    )


class PromotionGate(Frozen):
    """Conditions that a candidate must meet before it is registered. Measured on the validation part."""

    metric: Metric
    k: int | None = Field(default=None, ge=1, description="ndcg_at_k looks at the first k of a query.")
    minimum: float | None = Field(default=None, description="A candidate below this is never registered.")
    maximum: float | None = Field(
        default=None, description="A candidate above this is never registered; for metrics where less is better."
    )
    coverage: Range | None = Field(default=None, description="Share of values that the interval must hold.")
    baseline_margin: float | None = Field(
        default=None, ge=0, description="By how much a candidate must be better than the product's baseline."
    )
    champion_margin: float = Field(
        default=0.0,
        ge=0,
        description="How much worse than the champion, on the same rows, a candidate may be; `improvement` asks more.",
    )
    improvement: Improvement | None = None
    slices: Slices | None = None
    calibration: Calibration | None = None
    fairness: Fairness | None = None
    importance: Importance | None = None
    behaviour: Behaviour | None = None
    cost: Cost = Cost()
    plausible: Plausible = Plausible()

    @model_validator(mode="after")
    def _states_the_limit_of_its_metric(self) -> Self:
        _ = self.limit
        if (self.metric == "ndcg_at_k") != (self.k is not None):
            raise ValueError("`k` goes with the metric ndcg_at_k, and ndcg_at_k with `k`: the first k count")
        return self

    @property
    def is_lower_better(self) -> bool:
        """Whether less of the metric is better."""
        return self.metric in LOWER_IS_BETTER

    @property
    def limit(self) -> float:
        """The minimum or the maximum, whichever the metric has. Raises ValueError unless it is that one alone."""
        stated, other = (self.maximum, self.minimum) if self.is_lower_better else (self.minimum, self.maximum)
        if stated is None or other is not None:
            less, wanted, unwanted = (
                ("less", "maximum", "minimum") if self.is_lower_better else ("more", "minimum", "maximum")
            )
            raise ValueError(f"{less} {self.metric} is better: give `{wanted}`, and no `{unwanted}`")
        return stated

    @property
    def metric_name(self) -> str:
        """What the metric is recorded as: with its k, where it has one."""
        return self.metric if self.k is None else self.metric.removesuffix("k") + str(self.k)
