"""What a model learns to do: the tasks, and what each adds to a product: interval, queries, baseline.

What every product has, whatever its task, is in `configs/products.py`; the gate in `configs/gates.py`.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.schema import Frozen

Task = Literal["binary", "regression", "ranking"]
Objective = Literal["binary", "l1", "l2", "quantile", "lambdarank"]
Metric = Literal["roc_auc", "average_precision", "log_loss", "mae", "rmse", "ndcg_at_k"]
METRICS: dict[Task, tuple[Metric, ...]] = {
    "binary": ("roc_auc", "average_precision", "log_loss"),
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
LOWER_IS_BETTER: frozenset[Metric] = frozenset({"log_loss", "mae", "rmse"})


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
