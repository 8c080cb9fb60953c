"""Fit scikit-learn's logistic regression over binned features, and say it in trees that score the same.

Each feature's points depend on its own bin alone: a scorecard (Siddiqi, Credit Risk Scorecards, 2006). So the model is
one tree for each feature, and the contributions of a decision are read off it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs.algorithms import LogisticRegression
from configs.errors import MlwayError
from mlway_assets.compute.tree_text import Leaf, Node, Split, code_places

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Matrix = NDArray[np.float64]
Places = NDArray[np.int64]
_MOST_ITERATIONS = 2000


class ConvergenceError(MlwayError):
    """The logistic regression has found no end."""

    def __init__(self) -> None:
        super().__init__(
            f"The logistic regression did not converge in {_MOST_ITERATIONS} steps.\n"
            "Hint: raise `training.algorithms.logistic_regression.l2_regularization`, or declare fewer `bins`."
        )


@dataclass(frozen=True)
class Bins:
    """How one feature is cut. Of a number: `edges`, a bin holds what is above one and at most the next.

    Of a text: `codes`, a bin each. The last bin is that of what is missing, or was never seen.
    """

    edges: Matrix
    codes: Places | None = None

    @property
    def number(self) -> int:
        """How many, that of missing values included."""
        return (len(self.edges) + 1 if self.codes is None else len(self.codes)) + 1

    def of(self, values: Matrix) -> Places:
        """The bin of each value."""
        if self.codes is None:
            found, is_missing = np.searchsorted(self.edges, values, side="left"), np.isnan(values)
        else:
            found, is_known = code_places(self.codes, values)
            is_missing = ~is_known
        return np.where(is_missing, self.number - 1, found).astype(np.int64)


@dataclass(frozen=True)
class Learned:
    """The fitted model, how each feature is cut, and how many rows of training each bin holds."""

    model: Any
    bins: tuple[Bins, ...]
    counts: tuple[Places, ...]

    def indicators(self, matrix: Matrix) -> "csr_matrix":
        """What scikit-learn sees: a column for each bin of each feature, 1 where the row's value is in it."""
        return _indicators(matrix, self.bins)

    def trees(self) -> list[Node]:
        """Trees that sum to the model's log odds: the intercept, then one for each feature."""
        ends = np.cumsum([each.number for each in self.bins])[:-1]
        points = np.split(self.model.coef_[0], ends)
        start = Leaf(float(self.model.intercept_[0]), 0)
        cards = enumerate(zip(self.bins, points, self.counts, strict=True))
        return [start, *(_card(feature, *card) for feature, card in cards)]


def learn(spec: LogisticRegression, matrix: Matrix, targets: Matrix, categorical: Sequence[int]) -> Learned:
    """Fit on the feature matrix, of whose columns those at `categorical` hold texts' codes. Raises ConvergenceError."""
    from sklearn import linear_model
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    columns = [matrix[:, place] for place in range(matrix.shape[1])]
    bins = tuple(_cut(values, spec.bins, is_text=place in categorical) for place, values in enumerate(columns))
    counts = tuple(
        np.bincount(each.of(values), minlength=each.number) for each, values in zip(bins, columns, strict=True)
    )
    model = linear_model.LogisticRegression(C=1 / spec.l2_regularization, tol=1e-5, max_iter=_MOST_ITERATIONS)
    # Sums of matrices depend on how many threads share them.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(_indicators(matrix, bins), targets)
        except ConvergenceWarning as warning:
            raise ConvergenceError from warning
    return Learned(model, bins, counts)


def _cut(values: Matrix, most: int, *, is_text: bool) -> Bins:
    known = values[~np.isnan(values)]
    if is_text:
        return Bins(np.empty(0), np.unique(known).astype(np.int64))
    if not len(known):
        return Bins(np.empty(0))
    edges = np.unique(np.quantile(known, np.linspace(0, 1, most + 1)[1:-1], method="inverted_cdf"))
    return Bins(edges[edges < known.max()])


def _indicators(matrix: Matrix, bins: Sequence[Bins]) -> "csr_matrix":
    from scipy.sparse import csr_matrix

    begins = np.cumsum([0, *(each.number for each in bins)])
    places = np.column_stack(
        [begin + each.of(matrix[:, at]) for at, (begin, each) in enumerate(zip(begins, bins, strict=False))]
    )
    rows, features = places.shape
    shape = (rows, int(begins[-1]))
    return csr_matrix((np.ones(places.size), places.ravel(), np.arange(rows + 1) * features), shape=shape)


def _card(feature: int, bins: Bins, points: Matrix, counts: Places) -> Node:
    """The feature's tree: missing values apart, the others halved until each bin is alone."""
    # A bin for what is missing may have held no row. It counts as one: contributions divide by what came to a leaf.
    leaves = [Leaf(float(value), max(int(count), 1)) for value, count in zip(points, counts, strict=True)]
    *known, missing = leaves
    if not known:
        return missing
    if bins.codes is None:
        return _parted(feature, _ordered(feature, known, bins.edges), missing, threshold=float("inf"))
    codes = [int(code) for code in bins.codes]
    return _parted(feature, _grouped(feature, known, codes), missing, codes=tuple(codes))


def _ordered(feature: int, leaves: Sequence[Leaf], edges: Matrix) -> Node:
    if len(leaves) == 1:
        return leaves[0]
    half = len(leaves) // 2
    left, right = _ordered(feature, leaves[:half], edges[: half - 1]), _ordered(feature, leaves[half:], edges[half:])
    return _parted(feature, left, right, threshold=float(edges[half - 1]))


def _grouped(feature: int, leaves: Sequence[Leaf], codes: Sequence[int]) -> Node:
    if len(leaves) == 1:
        return leaves[0]
    half = len(leaves) // 2
    left, right = _grouped(feature, leaves[:half], codes[:half]), _grouped(feature, leaves[half:], codes[half:])
    return _parted(feature, left, right, codes=tuple(codes[:half]))


def _parted(
    feature: int, left: Node, right: Node, *, threshold: float = 0.0, codes: tuple[int, ...] | None = None
) -> Split:
    """A split whose gain is the variance between its sides: a tree's gains sum to the variance of its points."""
    rows = left.count + right.count
    gain = left.count * right.count / rows * (left.value - right.value) ** 2
    return Split(feature, left, right, gain, threshold, codes=codes)
