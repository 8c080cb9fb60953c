"""From columns of Python values to the matrix that a model sees, without a data frame between: what one request takes.

`feature_matrix` in scoring.py does the same to a frame; a property test holds the two together, bit for bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.scoring import MissingFeaturesError, ModelContract

_NOT_SEEN = float("nan")


class VectorBuilder:
    """Builds the matrices of one model. Threads may share it."""

    def __init__(self, contract: ModelContract) -> None:
        self.features = tuple(contract.features)
        self._codes = {
            name: {level: float(code) for code, level in enumerate(contract.levels[name])}
            for name, kind in contract.features.items()
            if kind == "string"
        }

    def matrix(self, columns: Mapping[str, Sequence[Any]]) -> NDArray[np.float64]:
        """Rows by features, C-contiguous. None becomes NaN, and so does a text that training never saw.

        Raises MissingFeaturesError.
        """
        if missing := [name for name in self.features if name not in columns]:
            raise MissingFeaturesError(missing)
        numbers = [self._numbers(name, columns[name]) for name in self.features]
        return np.ascontiguousarray(np.array(numbers, dtype=np.float64).T)

    def _numbers(self, name: str, values: Sequence[Any]) -> Sequence[Any]:
        codes = self._codes.get(name)
        return values if codes is None else [codes.get(value, _NOT_SEEN) for value in values]
