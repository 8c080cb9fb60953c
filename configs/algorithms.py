"""What a product may learn with: `training.algorithms`, each with its parameters."""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.schema import Frozen
from configs.search import Value
from configs.tasks import Task

Algorithm = Literal["lightgbm", "histogram_boosting", "logistic_regression"]
ALGORITHMS: dict[Task, tuple[Algorithm, ...]] = {
    "binary": ("lightgbm", "histogram_boosting", "logistic_regression"),
    "regression": ("lightgbm", "histogram_boosting"),
    "ranking": ("lightgbm",),
}
"""What can learn each task."""


class HistogramBoosting(Frozen):
    """scikit-learn's histogram gradient boosting. Its parameters have scikit-learn's names and meaning."""

    learning_rate: float = Field(default=0.1, gt=0)
    max_leaf_nodes: int = Field(default=31, ge=2)
    max_depth: int | None = Field(default=None, ge=1)
    min_samples_leaf: int = Field(default=20, ge=1)
    l2_regularization: float = Field(default=0.0, ge=0)
    max_features: float = Field(default=1.0, gt=0, le=1, description="Share of the features that a split looks at.")
    max_bins: int = Field(
        default=255, ge=2, le=255, description="Most values told apart; of a text, the most frequent ones."
    )


class LogisticRegression(Frozen):
    """scikit-learn's logistic regression as a scorecard: each feature has points for each of its bins.

    Numbers are cut into bins that hold equally many rows; each text, and a missing value, is a bin of its own.
    """

    bins: int = Field(default=20, ge=2, le=255, description="Most bins of a number.")
    l2_regularization: float = Field(default=10.0, gt=0, description="The inverse of scikit-learn's C.")


class Algorithms(Frozen):
    """The algorithms that are trained; the best on validation by the gate's metric is the candidate."""

    lightgbm: dict[str, Value] | None = Field(default=None, description="LightGBM's parameters, by its names.")
    histogram_boosting: HistogramBoosting | None = None
    logistic_regression: LogisticRegression | None = None

    @model_validator(mode="after")
    def _is_one_at_least(self) -> Self:
        if not self.names:
            raise ValueError(f"name one at least: {', '.join(ALGORITHMS['binary'])}")
        return self

    @property
    def names(self) -> tuple[Algorithm, ...]:
        """Those that are declared, always in the same order: of equals the first is taken."""
        return tuple(name for name in ALGORITHMS["binary"] if getattr(self, name) is not None)

    def parameters(self, name: Algorithm) -> dict[str, Value | None]:
        """The parameters of one of them, by their names."""
        if name == "lightgbm":
            return dict(self.lightgbm or {})
        found = self.histogram_boosting if name == "histogram_boosting" else self.logistic_regression
        return {} if found is None else found.model_dump()
