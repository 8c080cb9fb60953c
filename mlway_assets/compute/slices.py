"""How good scores are for parts of the rows: by carrier, by airport, and what else a product names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from configs.gates import Fairness, PromotionGate, Slices
from configs.products import ModelProduct
from mlway_assets.compute.gate import GateRule
from mlway_assets.compute.measurement import Measured, measured, told_metrics
from serving.scoring import Scores


@dataclass(frozen=True)
class Slice:
    """The rows that have one value of one column, and how they are served."""

    column: str
    value: str
    rows: int
    metrics: Mapping[str, float]
    found_share: float | None
    """Binary: of the positives, how many score at least the threshold."""

    @property
    def name(self) -> str:
        """As in `carrier = AA`."""
        return f"{self.column} = {self.value}"


def by_slice(
    product: ModelProduct,
    rows: pl.DataFrame,
    scores: Scores,
    by: Sequence[str],
    *,
    minimum_rows: int,
    threshold: float = 0.5,
) -> list[Slice]:
    """Each value's slice that has enough rows to tell good from bad, in the order of `by` and of the values."""
    return [
        Slice(column, value, len(where), metrics, _found_share(product, part, threshold))
        for column in by
        for value, where in _places(rows, column)
        if len(where) >= minimum_rows
        and (part := measured(product, rows[where], _taken(scores, where)))
        and (metrics := told_metrics(product, part))
    ]


def slice_rules(
    product: ModelProduct, limits: Slices, rows: pl.DataFrame, candidate: Scores, champion: Scores
) -> list[GateRule]:
    """One rule: the slice that is worse than by the champion, by the most, is so by no more than may be."""
    ours, theirs = (
        by_slice(product, rows, scores, limits.by, minimum_rows=limits.minimum_rows) for scores in (candidate, champion)
    )
    metric = product.gate.metric_name
    before = {each.name: each.metrics[metric] for each in theirs}
    worse = {each.name: _worse(product.gate, each.metrics[metric], before[each.name]) for each in ours}
    if not worse:
        return []
    worst = max(worse, key=lambda name: worse[name])
    name = f"{metric} of no slice is worse than by the champion: {worst}"
    return [GateRule("slices", name, worse[worst], "at most", limits.maximum_worsening)]


def fairness_rules(
    product: ModelProduct, limits: Fairness, rows: pl.DataFrame, candidate: Scores, champion: Scores | None
) -> list[GateRule]:
    """For each column: how far the worst group lies behind the groups' mean, and how unlike positives are found.

    Where the champion is past a limit on the same rows, its value is the limit.
    """
    rules = []
    for column in limits.by:
        ours = group_gaps(product, limits, rows, candidate, column)
        theirs = {} if champion is None else group_gaps(product, limits, rows, champion, column)
        for what, (seen, group) in ours.items():
            allowed = limits.maximum_gap if what == "gap" else limits.maximum_opportunity_difference
            if allowed is None:
                continue
            metric = product.gate.metric_name
            name = (
                f"{metric} of the worst {column} lies near the mean: {group}"
                if what == "gap"
                else f"Positives are found alike for every {column}: {group}"
            )
            rules.append(GateRule("fairness", name, seen, "at most", max(allowed, theirs.get(what, (0.0, ""))[0])))
    return rules


def group_gaps(
    product: ModelProduct, limits: Fairness, rows: pl.DataFrame, scores: Scores, column: str
) -> dict[str, tuple[float, str]]:
    """`gap` and, of a classifier, `opportunity`: how large, and between whom. Empty where there is but one group."""
    groups = by_slice(product, rows, scores, [column], minimum_rows=limits.minimum_rows, threshold=limits.threshold)
    if len(groups) < 2:
        return {}
    metric = product.gate.metric_name
    mean = float(np.mean([each.metrics[metric] for each in groups]))
    behind = {each.value: _worse(product.gate, each.metrics[metric], mean) for each in groups}
    worst = max(behind, key=lambda value: behind[value])
    found = {"gap": (behind[worst], worst)}
    shares = {each.value: each.found_share for each in groups if each.found_share is not None}
    if shares:
        low, high = min(shares, key=lambda value: shares[value]), max(shares, key=lambda value: shares[value])
        found["opportunity"] = (shares[high] - shares[low], f"{low} and {high}")
    return found


def _worse(gate: PromotionGate, seen: float, than: float) -> float:
    """By how much `seen` is worse; below zero it is better."""
    return seen - than if gate.is_lower_better else than - seen


def _places(rows: pl.DataFrame, column: str) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each value and the places of its rows; null is a value."""
    places = rows.select(pl.col(column).cast(pl.String).fill_null("null").alias("value")).with_row_index()
    by_value = places.group_by("value").agg(pl.col("index").sort()).sort("value")
    for value, where in by_value.iter_rows():
        yield value, np.asarray(where, np.int64)


def _taken(scores: Scores, where: NDArray[np.int64]) -> Scores:
    lower, upper = (None if end is None else end[where] for end in (scores.lower, scores.upper))
    return Scores(scores.score[where], lower, upper)


def _found_share(product: ModelProduct, part: Measured, threshold: float) -> float | None:
    positive = part.targets > 0
    if product.task != "binary" or not positive.any():
        return None
    return float((part.scores.score[positive] >= threshold).mean())
