"""How a product's candidates are made: `training` of its file."""

from typing import Self

from pydantic import Field, model_validator

from configs.algorithms import Algorithms
from configs.schema import Frozen
from configs.search import Search
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

    algorithms: Algorithms
    objective: Objective | None = Field(default=None, description="What is minimised; left out, the task's usual one.")
    rounds: int = Field(gt=0, description="Most boosting rounds; early stopping on validation may end sooner.")
    early_stopping_rounds: int = Field(gt=0)
    seed: int
    split: Split
    search: Search | None = Field(
        default=None, description="Tries other parameters of LightGBM; left out, those declared are taken."
    )

    @model_validator(mode="after")
    def _search_is_of_lightgbm(self) -> Self:
        if self.search is not None and self.algorithms.lightgbm is None:
            raise ValueError("`search` tries parameters of LightGBM: add it to `algorithms`, or take `search` out")
        return self

    @model_validator(mode="after")
    def _declared_parameters_are_in_the_space(self) -> Self:
        declared = self.algorithms.lightgbm or {}
        for name, values in (self.search.space if self.search else {}).items():
            if name in declared and not values.holds(declared[name]):
                raise ValueError(
                    f"`algorithms.lightgbm.{name}` is {declared[name]}, which `search.space.{name}` does not hold: the "
                    "declared parameters are the first that are tried"
                )
        return self

    @model_validator(mode="after")
    def _says_each_thing_once(self) -> Self:
        space = {} if self.search is None else self.search.space
        for field, names in (("algorithms.lightgbm", self.algorithms.lightgbm or {}), ("search.space", space)):
            if taken := sorted(names.keys() & _DECLARED_ELSEWHERE.keys()):
                raise ValueError(f"`{field}` must not hold {taken[0]!r}: say it in {_DECLARED_ELSEWHERE[taken[0]]}")
        return self
