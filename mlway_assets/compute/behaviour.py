"""What must hold of a model's scores whatever its metric says: directions, indifference, known cases, cost."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import polars as pl
from numpy.typing import NDArray

from configs.gates import Behaviour, Cost, Plausible
from feature_repo.expressions import parse
from mlway_assets.compute.gate import GateRule
from serving.scoring import ScoringModel, feature_matrix

Matrix = NDArray[np.float64]
_STEPS = 11
"""A feature is moved to so many of its quantiles."""
_TIMED = 200


def behaviour_rules(limits: Behaviour, model: ScoringModel, rows: pl.DataFrame, seed: int) -> list[GateRule]:
    """How far scores go the wrong way while one feature moves and all others stay, and what known cases get.

    Each feature moves over its own quantiles in `rows`, a text over its values; what is missing in a row moves too.
    """
    some = rows.sample(min(limits.rows, len(rows)), seed=seed)
    matrix, places = feature_matrix(some, model.contract), {name: at for at, name in enumerate(model.contract.features)}
    values = feature_matrix(rows, model.contract)
    rules = []
    for names, said, wrong in (
        (limits.increasing, "does not lower a score as it grows", _greatest_fall),
        (limits.decreasing, "does not raise a score as it grows", _greatest_rise),
        (limits.invariant, "does not change a score", _greatest_change),
    ):
        for name in names:
            scores = _moved(model, matrix, places[name], _grid(values[:, places[name]]))
            seen = wrong(scores) if len(scores) > 1 else 0.0
            rules.append(GateRule("behaviour", f"{name} {said}", max(seen, 0.0), "at most", limits.tolerance))
    return rules + _case_rules(limits, model, rows)


def cost_rules(limits: Cost, model: ScoringModel, texts: Sequence[str], rows: pl.DataFrame) -> list[GateRule]:
    """The size of the model's boosters as text, and the median time of one row's score, by this process."""
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    matrix = feature_matrix(rows.head(_TIMED), model.contract)
    seconds = []
    for row in matrix:
        began = perf_counter()
        model.score_matrix(row.reshape(1, -1), threads=1)
        seconds.append(perf_counter() - began)
    return [
        GateRule("cost", "Megabytes of the model", megabytes, "at most", limits.maximum_megabytes),
        GateRule(
            "cost",
            "Microseconds of one row's score",
            float(np.median(seconds)) * 1e6,
            "at most",
            limits.maximum_microseconds,
        ),
    ]


def plausible_rules(limits: Plausible, model: ScoringModel, better: float | None) -> list[GateRule]:
    """How much better than the champion it is, and how much hangs on one feature: too much is mostly a leak."""
    gains = np.asarray(model.booster.feature_importance("gain"), np.float64)
    share = float(gains.max() / gains.sum()) if gains.sum() else 0.0
    most = list(model.contract.features)[int(gains.argmax())]
    rules = []
    if limits.maximum_importance is not None:
        name = f"Share of the trees' gain of {most}"
        rules.append(GateRule("plausible", name, share, "at most", limits.maximum_importance))
    if limits.maximum_improvement is not None and better is not None:
        name = "It is not better than the champion by more than one believes"
        rules.append(GateRule("plausible", name, better, "at most", limits.maximum_improvement))
    return rules


def _greatest_fall(scores: Matrix) -> float:
    return _greatest_rise(-scores)


def _greatest_rise(scores: Matrix) -> float:
    return float(np.diff(scores, axis=0).max())


def _greatest_change(scores: Matrix) -> float:
    return float(np.ptp(scores, axis=0).max())


def _grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = values[~np.isnan(values)]
    if not len(known):
        return np.empty(0)
    return np.unique(np.quantile(known, np.linspace(0, 1, _STEPS), method="nearest"))


def _moved(model: ScoringModel, matrix: Matrix, place: int, grid: NDArray[np.float64]) -> Matrix:
    """Grid by rows: the scores with the feature at each of the grid's values."""
    moved = np.repeat(matrix[np.newaxis], len(grid), axis=0)
    moved[:, :, place] = grid[:, np.newaxis]
    flat = np.ascontiguousarray(moved.reshape(-1, matrix.shape[1]))
    return model.score_matrix(flat).score.reshape(len(grid), len(matrix)) if len(flat) else np.empty((0, 0))


def _case_rules(limits: Behaviour, model: ScoringModel, rows: pl.DataFrame) -> list[GateRule]:
    rules = []
    for case in limits.cases:
        found = rows.filter(parse(case.when))
        mean = float(model.score(found).mean()) if len(found) else float("nan")
        name = f"{case.name}: mean score of {len(found):,} rows"
        if case.minimum is not None:
            rules.append(GateRule("behaviour", name, mean, "at least", case.minimum))
        if case.maximum is not None:
            rules.append(GateRule("behaviour", name, mean, "at most", case.maximum))
    return rules
