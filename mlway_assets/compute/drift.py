"""How far values have moved from those that a model was trained on: every column of the rows, each put in order once.

A reference keeps of a number's distribution where its quantiles lie and how many values lie at and between them, of a
text's how often each value occurs. That is enough for every measure here, and small.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Shares = NDArray[np.float64]
Counts = NDArray[np.int64]
_QUANTILES = 200
"""Kolmogorov-Smirnov is looked for at these."""
_BINS = 10
"""The population stability index is that of tenths."""


@dataclass(frozen=True)
class Movement:
    """The part of a distribution that has grown or shrunk the most: its share in the reference, and now."""

    part: str
    expected_share: float
    seen_share: float


@dataclass(frozen=True)
class ColumnDrift:
    """How far one column has moved. Shares are of all rows; the distances are of the values that are not missing.

    `psi` is the population stability index: over tenths of the reference and what lies outside of it, of texts over its
    values and one part for all that it does not know. `distance` is Kolmogorov-Smirnov's of numbers, Jensen-Shannon's
    of texts; both lie between 0 and 1. Without values on either side both are not a number.
    """

    name: str
    is_text: bool
    rows: int
    psi: float
    distance: float
    missing_share: float
    expected_missing_share: float
    unseen_share: float
    """Texts that the reference does not know."""
    most_moved: Movement | None

    @property
    def missing_difference(self) -> float:
        """By how much the share of missing values has grown; below zero it has shrunk."""
        return self.missing_share - self.expected_missing_share


class Reference:
    """What the columns of some rows look like, for others to be held against."""

    def __init__(self, rows: pl.DataFrame) -> None:
        """Texts and categories are compared value by value; numbers, and conditions as 0 and 1, by quantiles."""
        rows = texts_and_numbers(rows)
        self._rows = len(rows)
        self._edges: dict[str, Shares] = {}
        self._levels: dict[str, pl.Series] = {}
        self._counts: dict[str, Counts] = {}
        for values in rows:
            if values.dtype == pl.String:
                self._levels[values.name] = values.drop_nulls().unique().sort()
                self._counts[values.name] = _level_counts(values, self._levels[values.name])
            else:
                ordered = _ordered(values)
                self._edges[values.name] = _edges(ordered)
                self._counts[values.name] = _cell_counts(ordered, self._edges[values.name])

    @property
    def columns(self) -> list[str]:
        """The columns that it knows."""
        return list(self._counts)

    def drift(self, rows: pl.DataFrame) -> list[ColumnDrift]:
        """How far each column of `rows`, which has at least those of the reference, has moved."""
        return [
            self._text(values.name, _level_counts(values, self._levels[values.name]), len(rows))
            if values.name in self._levels
            else self._number(values.name, _cell_counts(_ordered(values), self._edges[values.name]), len(rows))
            for values in texts_and_numbers(rows.select(self.columns))
        ]

    def _number(self, name: str, seen: Counts, rows: int) -> ColumnDrift:
        expected, edges = self._counts[name], self._edges[name]
        starts = _part_starts(expected)
        before, now = (np.add.reduceat(counts, starts) for counts in (expected, seen))
        distance = np.abs(np.cumsum(_shares(expected)) - np.cumsum(_shares(seen))).max()
        parts = _intervals(edges, starts)
        return self._found(name, rows, expected, seen, before, now, float(distance), parts)

    def _text(self, name: str, seen: Counts, rows: int) -> ColumnDrift:
        expected = self._counts[name]
        parts = [repr(level) for level in self._levels[name]] + ["values that were never seen"]
        distance = _jensen_shannon(_shares(expected), _shares(seen))
        return self._found(name, rows, expected, seen, expected, seen, distance, parts)

    def _found(
        self,
        name: str,
        rows: int,
        expected: Counts,
        seen: Counts,
        before: Counts,
        now: Counts,
        distance: float,
        parts: list[str],
    ) -> ColumnDrift:
        is_text = name in self._levels
        return ColumnDrift(
            name=name,
            is_text=is_text,
            rows=rows,
            psi=stability_index(before, now),
            distance=distance,
            missing_share=1 - int(seen.sum()) / rows if rows else 0.0,
            expected_missing_share=1 - int(expected.sum()) / self._rows if self._rows else 0.0,
            unseen_share=int(seen[-1]) / rows if is_text and rows else 0.0,
            most_moved=_most_moved(parts, _shares(before), _shares(now)),
        )


def stability_index(expected: Counts, seen: Counts) -> float:
    """The population stability index of counts: sum of (s - e) * ln(s / e) over the parts, s and e shares.

    0 means identical; above 0.25 is read as a major shift (Siddiqi, Credit Risk Scorecards, 2006). A part with nothing
    in it counts as half a row: its logarithm would be infinite. Not a number when one side holds nothing at all.
    """
    if not expected.sum() or not seen.sum():
        return float("nan")
    is_there = (expected > 0) | (seen > 0)
    before, now = (_shares(np.maximum(counts[is_there], 0.5)) for counts in (expected, seen))
    return float(np.sum((now - before) * np.log(now / before)))


def _jensen_shannon(expected: Shares, seen: Shares) -> float:
    """The square root of the divergence, logarithms to base 2 (Endres & Schindelin 2003): a distance from 0 to 1."""
    middle = (expected + seen) / 2
    halves = [
        np.sum(part[part > 0] * np.log2(part[part > 0] / middle[part > 0])) if np.isfinite(part).all() else np.nan
        for part in (expected, seen)
    ]
    return float(np.sqrt(max(sum(halves) / 2, 0.0))) if np.isfinite(halves).all() else float("nan")


def _shares(counts: NDArray[Any]) -> Shares:
    total = counts.sum()
    return counts / total if total else np.full(len(counts), np.nan)


def texts_and_numbers(rows: pl.DataFrame) -> pl.DataFrame:
    """Texts as text, everything else as numbers; what is no number is missing."""
    texts = pl.selectors.string() | pl.selectors.by_dtype(pl.Categorical, pl.Enum)
    return rows.with_columns(texts.cast(pl.String), (~texts).cast(pl.Float64).fill_nan(None))


def _ordered(values: pl.Series) -> Shares:
    """The values that are not missing, the least first: in order, what lies between two edges is found at once."""
    return np.sort(values.drop_nulls().to_numpy())


def _edges(ordered: Shares) -> Shares:
    """The least value, and those by which a 200th of them is reached, two of them, ...: each once."""
    places = np.maximum(-(-np.arange(_QUANTILES + 1) * len(ordered) // _QUANTILES) - 1, 0)
    return np.unique(ordered[places] + 0.0) if len(ordered) else np.empty(0)


def _cell_counts(ordered: Shares, edges: Shares) -> Counts:
    """How many values lie below the first edge, at it, above it and below the second, ..., above the last."""
    ends = np.stack([np.searchsorted(ordered, edges, "left"), np.searchsorted(ordered, edges, "right")], axis=1)
    return np.diff(ends.ravel(), prepend=0, append=len(ordered))


def _level_counts(texts: pl.Series, levels: pl.Series) -> Counts:
    """How often each level occurs, and last how many texts are none of them."""
    found = texts.drop_nulls().alias("level").value_counts(name="times")
    known = levels.to_frame("level").join(found, on="level", how="left", maintain_order="left")["times"].fill_null(0)
    return np.array([*known, len(texts) - texts.null_count() - known.sum()], np.int64)


def _part_starts(expected: Counts) -> NDArray[np.int64]:
    """The cells with which the parts begin: what is below all of the reference, its tenths, what is above all of it.

    Where values repeat there are fewer than ten tenths.
    """
    if not expected.sum():
        return np.zeros(1, np.int64)
    filled = np.cumsum(_shares(expected))
    # A part ends with the first cell by which its tenths are full.
    tenths = [int(np.searchsorted(filled, tenth / _BINS - 1e-12)) for tenth in range(1, _BINS)]
    return np.array([0, *(end + 1 for end in sorted({0, *tenths, len(expected) - 2}))], np.int64)


def _intervals(edges: Shares, starts: NDArray[np.int64]) -> list[str]:
    """What each part holds. Cell 2 k + 1 is edge k itself, cell 2 k what lies below it."""
    bounds = [_short(edges, (start - 1) // 2) for start in starts[1:]]
    if not bounds:
        return ["all values"]
    inner = [low if low == high else f"{low} to {high}" for low, high in pairwise(bounds)]
    return [f"below {bounds[0]}", *inner, f"above {bounds[-1]}"]


def _short(edges: Shares, place: int) -> str:
    """An edge in no more digits than tell it from its neighbours."""
    near = [float(edge) for edge in edges[max(place - 1, 0) : place + 2]]
    texts = ([f"{edge:.{digits}g}" for edge in near] for digits in (4, 8, 12))
    told = next((found for found in texts if len(set(found)) == len(near)), [repr(edge) for edge in near])
    return told[min(place, 1)]


def _most_moved(parts: list[str], expected: Shares, seen: Shares) -> Movement | None:
    if not np.isfinite(expected).all() or not np.isfinite(seen).all():
        return None
    most = int(np.argmax(np.abs(seen - expected)))
    return Movement(parts[most], float(expected[most]), float(seen[most]))
