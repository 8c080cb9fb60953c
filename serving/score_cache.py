"""Scores that one model gave lately. A vector of the same bits gets the same score: a hit is what a call would give."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Scored = TypeVar("Scored")


class ScoreCache(Generic[Scored]):
    """Keeps the newest scores of one model. Each version has a cache of its own, which goes with it."""

    def __init__(self, most: int) -> None:
        """Keeps the scores of at most `most` vectors; of none, with 0."""
        self._most = most
        self._scores: dict[bytes, Scored] = {}

    def score(
        self, matrix: NDArray[np.float64], compute: Callable[[NDArray[np.float64]], Sequence[Scored]]
    ) -> tuple[list[Scored], list[bool]]:
        """The score of each row, by `compute` of those that are not here, and which were here."""
        if not self._most:
            return list(compute(matrix)), [False] * len(matrix)
        keys = [row.tobytes() for row in matrix]
        found = [self._scores.get(key) for key in keys]
        hits = [score is not None for score in found]
        new = [place for place, score in enumerate(found) if score is None]
        if new:
            for place, score in zip(new, compute(matrix[new] if len(new) < len(keys) else matrix), strict=True):
                found[place] = score
                self._keep(keys[place], score)
        return [score for score in found if score is not None], hits

    def _keep(self, key: bytes, score: Scored) -> None:
        if len(self._scores) >= self._most:
            del self._scores[next(iter(self._scores))]  # the oldest
        self._scores[key] = score
