"""What a model learns to do: the tasks, and what each adds to a product: interval, queries, gate, baseline.

What every product has, whatever its task, is in `configs/products.py`.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.schema import Frozen

Task = Literal["binary", "regression", "ranking"]
Objective = Literal["binary", "l1", "l2", "quantile", "lambdarank"]
Metric = Literal["roc_auc", "average_precision", "mae", "rmse", "ndcg_at_k"]
METRICS: dict[Task, tuple[Metric, ...]] = {
    "binary": ("roc_auc", "average_precision"),
    "regression": ("mae", "rmse"),
    "ranking": ("ndcg_at_k",),
}
"""What a gate may hold a candidate of each task to."""
OBJECTIVES: dict[Task, tuple[Objective, ...]] = {
    "binary": ("binary",),
    "regression": ("l2", "l1", "quantile"),
    "ranking": ("lambdarank",),
}
"""What training of each task may minimise; the first is the default."""
LOWER_IS_BETTER: frozenset[Metric] = frozenset({"mae", "rmse"})


class Interval(Frozen):
    """The quantiles between which a regression expects the value."""

    lower: float = Field(gt=0, lt=1, description="Quantile of the lower end, such as 0.1.")
    upper: float = Field(gt=0, lt=1, description="Quantile of the upper end, such as 0.9.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.lower < self.upper:
            raise ValueError("lower < upper must hold")
        return self


class Ranking(Frozen):
    """What is put in order, and what a good order is. Features of a query's rows are all as of one moment."""

    groups: tuple[str, ...] = Field(
        min_length=1,
        description="Columns of the population's table, or Polars SQL over them: rows that agree in all are one query. "
        "Batch predictions are made day by day, so a query must not reach over days: `event_day` among the groups "
        "sees to that.",
    )
    relevance: str = Field(
        description="Polars SQL over `label` that gives a whole number from 0 to 30; more is better.",
        examples=["CASE WHEN label <= 0 THEN 2 WHEN label < 15 THEN 1 ELSE 0 END"],
    )


class Range(Frozen):
    """Where a value must lie, both ends included."""

    minimum: float
    maximum: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.minimum <= self.maximum:
            raise ValueError("minimum <= maximum must hold")
        return self


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
        default=0.0, ge=0, description="How much worse than the champion, on the same rows, a candidate may be."
    )

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


class Baseline(Frozen):
    """The answer before the first model exists, and what a candidate is compared with."""

    score: float = Field(default=0.0, allow_inf_nan=False, description="The historical rate or value.")
    lower: float | None = Field(default=None, allow_inf_nan=False, description="Lower end of the interval.")
    upper: float | None = Field(default=None, allow_inf_nan=False, description="Upper end of the interval.")
    order_by: str | None = Field(
        default=None, description="Ranking: the request's number or timestamp to order by, smallest first."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if (self.lower is None) != (self.upper is None):
            raise ValueError("`lower` and `upper` go together: give both, or neither")
        if self.lower is not None and self.upper is not None and not self.lower <= self.score <= self.upper:
            raise ValueError("lower <= score <= upper must hold")
        return self
