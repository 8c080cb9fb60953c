"""Rows as a monitored product has them: 24 numbers and 6 texts of many shapes, some of which move, some with gaps."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

Dice = np.random.Generator
Values = NDArray[np.float64]
Shape = Callable[[Dice, int, float], Values]

SHAPES: Mapping[str, Shape] = {
    "normal": lambda dice, rows, moved: dice.normal(moved, 1 + moved / 2, rows),
    "skewed": lambda dice, rows, moved: dice.lognormal(1 + moved, 1, rows),
    "heavy_tails": lambda dice, rows, moved: dice.standard_t(2, rows) + moved,
    "two_peaks": lambda dice, rows, moved: dice.normal(np.where(dice.random(rows) < 0.3 + moved, 5, -5), 1),
    "counts": lambda dice, rows, moved: dice.poisson(4 * (1 + moved), rows).astype(np.float64),
    "mostly_zero": lambda dice, rows, moved: np.where(dice.random(rows) < 0.7 - moved, 0.0, dice.exponential(9, rows)),
    "shares": lambda dice, rows, moved: np.round(dice.beta(2 + moved, 5, rows), 2),
    "conditions": lambda dice, rows, moved: (dice.random(rows) < 0.2 + moved).astype(np.float64),
}
MOVES = (0.0, 0.05, 0.25)
"""How far a column's rows have moved: of each shape one column does not."""
LEVELS = (2, 3, 10, 30, 100, 300)
"""Different values of the texts, the frequent ones far more frequent."""


def draw(dice: Dice, rows: int, *, is_moved: bool) -> pl.DataFrame:
    """`rows` rows, as they were or, every column by its own measure, moved."""
    columns: dict[str, pl.Series] = {}
    for shape, make in SHAPES.items():
        for number, move in enumerate(MOVES):
            values = make(dice, rows, move if is_moved else 0.0)
            gaps = _gaps(dice, values, number, 0.02 if is_moved else 0.0)
            columns[f"{shape}_{number}"] = pl.Series(values).set(pl.Series(gaps), None)
    for number, levels in enumerate(LEVELS):
        columns[f"text_of_{levels}"] = _texts(dice, rows, levels, MOVES[number % 3] if is_moved else 0.0)
    return pl.DataFrame(columns)


def _gaps(dice: Dice, values: Values, number: int, more: float) -> NDArray[np.bool_]:
    """Nothing is missing; or one in ten, anywhere; or a stretch of rows, and where values are high."""
    place = np.arange(len(values)) / len(values)
    if number == 0:
        return np.zeros(len(values), np.bool_)
    if number == 1:
        return dice.random(len(values)) < 0.1 + more
    return (place > 0.8 - more) | ((values > np.quantile(values, 0.9)) & (dice.random(len(values)) < 0.5))


def _texts(dice: Dice, rows: int, levels: int, moved: float) -> pl.Series:
    """Texts of which the n-th is 1/n as frequent as the first; moved, some that never were, and more gaps."""
    weights = 1 / np.arange(1, levels + 1) ** (1 - moved)
    known: Sequence[str] = [f"value {level}" for level in range(levels)]
    places = dice.choice(levels, rows, p=weights / weights.sum())
    texts = pl.Series(known).gather(pl.Series(places))
    unseen = pl.Series(dice.random(rows) < moved / 5)
    return texts.set(unseen, "never before").set(pl.Series(dice.random(rows) < 0.03 + moved / 2), None)
