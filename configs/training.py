"""How a product's candidates are made: `training` of its file."""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.schema import Frozen
from configs.search import Search, Value
from configs.splits import Split
from configs.tasks import Objective

_DECLARED_ELSEWHERE = {
    "objective": "training.objective",
    "alpha": "interval",
    "metric": "gate.metric",
    "seed": "training.seed",
    "num_iterations": "training.rounds",
    "early_stopping_round": "training.early_stopping_rounds",
}
"""Parameters of LightGBM that would contradict other fields."""


class Training(Frozen):
    """How a candidate is made."""

    algorithm: Literal["lightgbm"]
    objective: Objective | None = Field(default=None, description="What is minimised; left out, the task's usual one.")
    parameters: dict[str, Value] = {}
    rounds: int = Field(gt=0, description="Most boosting rounds; early stopping on validation may end sooner.")
    early_stopping_rounds: int = Field(gt=0)
    seed: int
    split: Split
    search: Search | None = Field(default=None, description="Left out, `parameters` are those declared.")

    @model_validator(mode="after")
    def _declared_parameters_are_in_the_space(self) -> Self:
        for name, values in (self.search.space if self.search else {}).items():
            if name in self.parameters and not values.holds(self.parameters[name]):
                raise ValueError(
                    f"`parameters.{name}` is {self.parameters[name]}, which `search.space.{name}` does not hold: the "
                    "declared parameters are the first that are tried"
                )
        return self

    @model_validator(mode="after")
    def _says_each_thing_once(self) -> Self:
        space = {} if self.search is None else self.search.space
        for field, names in (("parameters", self.parameters), ("search.space", space)):
            if taken := sorted(names.keys() & _DECLARED_ELSEWHERE.keys()):
                raise ValueError(f"`{field}` must not hold {taken[0]!r}: say it in {_DECLARED_ELSEWHERE[taken[0]]}")
        return self
