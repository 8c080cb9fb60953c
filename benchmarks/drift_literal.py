"""The statistics of drift once more, by SciPy and by what their definitions say, one value and one column at a time."""

import math
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, ks_2samp

from mlway_assets.compute.drift import ColumnDrift

EXACT = 1e-9
HALF_A_PERCENT = 1 / 200
"""Ours looks for Kolmogorov-Smirnov at 200 quantiles: between two of them it may miss so much of it."""


def psi(expected: NDArray[np.float64], seen: NDArray[np.float64]) -> float:
    """Of counts: with shares it is the relative entropy of each to the other, added."""
    is_there = (expected > 0) | (seen > 0)
    before, now = np.maximum(expected[is_there], 0.5), np.maximum(seen[is_there], 0.5)
    return float(entropy(now, before) + entropy(before, now))


def quantiles(values: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    """The values by which one, two, ... of `parts` equal parts are reached: in whole numbers, which do not round."""
    return np.sort(values)[[math.ceil(Fraction(len(values) * part, parts)) - 1 for part in range(1, parts + 1)]]


def grid_distance(expected: NDArray[np.float64], seen: NDArray[np.float64]) -> float:
    """Kolmogorov-Smirnov's of what is known of values beside the 200 quantiles: at which or between which they lie."""
    edges = np.unique([expected.min(), *quantiles(expected, 200)])
    cells = [np.searchsorted(edges, each, "left") + np.searchsorted(edges, each, "right") for each in (expected, seen)]
    return float(ks_2samp(*cells, method="asymp").statistic)


def number_psi(expected: NDArray[np.float64], seen: NDArray[np.float64]) -> float:
    """Over the tenths of the expected values, what lies below all of them, and what lies above."""
    bounds = np.unique([np.nextafter(expected.min(), -np.inf), *quantiles(expected, 10)])
    counts = [
        np.bincount(np.searchsorted(bounds, values, "left"), minlength=len(bounds) + 1) for values in (expected, seen)
    ]
    return psi(*(each.astype(np.float64) for each in counts))


def text_counts(expected: list[str], seen: list[str]) -> list[NDArray[np.float64]]:
    """Of each expected text, and of all others together."""
    known, now = Counter(expected), Counter(seen)
    others = sum(count for text, count in now.items() if text not in known)
    return [
        np.array([*known.values(), 0], np.float64),
        np.array([*(now[text] for text in known), others], np.float64),
    ]


def require_equal(found: ColumnDrift, expected: pl.Series, seen: pl.Series) -> None:
    """Ends the benchmark where a statistic of ours is not what it should be."""
    before, now = expected.drop_nulls(), seen.drop_nulls()
    _require(found.name, "missing share", found.missing_share, 1 - len(now) / len(seen), EXACT)
    _require(found.name, "expected missing share", found.expected_missing_share, 1 - len(before) / len(expected), EXACT)
    if found.is_text:
        counts = text_counts(before.to_list(), now.to_list())
        _require(found.name, "PSI", found.psi, psi(*counts), EXACT)
        # SciPy's divergence loses half of its digits to the root.
        _require(found.name, "Jensen-Shannon", found.distance, float(jensenshannon(*counts, base=2)), 1e-7)
        _require(found.name, "share never seen", found.unseen_share, counts[1][-1] / len(seen), EXACT)
        return
    _require(found.name, "PSI", found.psi, number_psi(before.to_numpy(), now.to_numpy()), EXACT)
    grid = grid_distance(before.to_numpy(), now.to_numpy())
    _require(found.name, "Kolmogorov-Smirnov at quantiles", found.distance, grid, EXACT)
    exact = float(ks_2samp(before.to_numpy(), now.to_numpy(), method="asymp").statistic)
    _require(found.name, "Kolmogorov-Smirnov", found.distance, exact, HALF_A_PERCENT)


def _require(column: str, name: str, ours: float, theirs: float, tolerance: float) -> None:
    if not math.isclose(ours, theirs, rel_tol=0, abs_tol=tolerance):
        sys.exit(f"{column}: our {name} is {ours!r}, by its definition it is {theirs!r}")
