"""A hit is what a fresh call would give, and there are no more entries than may be."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.score_cache import ScoreCache

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf"), 5e-324])
MATRICES = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8).map(np.array)


def bits(matrix: NDArray[np.float64]) -> list[bytes]:
    """Tells every vector from every other, 0 from -0 too."""
    return [row.tobytes() for row in matrix]


@given(st.lists(MATRICES, max_size=8), st.integers(0, 5))
def test_every_row_gets_what_a_call_gives_it(matrices: list[NDArray[np.float64]], most: int) -> None:
    cache: ScoreCache[bytes] = ScoreCache(most)
    for matrix in matrices:
        scores, hits = cache.score(matrix, bits)
        assert scores == bits(matrix)
        assert len(hits) == len(matrix)
        assert len(cache._scores) <= most


def test_what_was_scored_is_not_scored_again_while_it_is_kept() -> None:
    cache: ScoreCache[bytes] = ScoreCache(2)
    one, two, three = (np.array([[value]]) for value in (1.0, 2.0, 3.0))
    hits = [cache.score(each, bits)[1] for each in (one, two, one, three, two, one)]
    assert hits == [[False], [False], [True], [False], [True], [False]]
