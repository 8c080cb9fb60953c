"""Measure what a model card says of one model: parts, metrics with intervals, slices, and how unlike groups are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from configs.gates import Fairness
from configs.products import ModelProduct
from configs.splits import Part
from configs.tasks import METRICS, Metric
from mlway_assets.compute.card import FairnessFacts, MetricFacts, PartFacts, RuleFacts, SliceFacts
from mlway_assets.compute.gate import GateRule
from mlway_assets.compute.improvement import metric_interval
from mlway_assets.compute.measurement import measured
from mlway_assets.compute.population import part_of
from mlway_assets.compute.slices import by_slice, group_gaps
from serving.scoring import Scores, ScoringModel

CONFIDENCE = 0.9
_DRAWS = 1_000
Interval = tuple[float, float]


@dataclass(frozen=True)
class ScoredPart:
    """The rows of one part with the model's scores."""

    rows: pl.DataFrame
    scores: Scores


def scored_parts(product: ModelProduct, rows: pl.DataFrame, model: ScoringModel) -> dict[Part, ScoredPart]:
    """Validation and test."""
    parts: tuple[Part, ...] = ("validate", "test")
    found = {part: part_of(rows, product, part) for part in parts}
    return {part: ScoredPart(where, model.scores(where)) for part, where in found.items()}


def part_facts(product: ModelProduct, rows: pl.DataFrame) -> tuple[PartFacts, ...]:
    """The rows and the time span of each part."""
    found = []
    for part in ("train", "validate", "test"):
        times = part_of(rows, product, part)[product.population.event_time]
        first, last = (moment if isinstance(moment, datetime) else None for moment in (times.min(), times.max()))
        judged = product.training.split.judged == part
        found.append(PartFacts(part=part, rows=len(times), first=first, last=last, is_judged=judged))
    return tuple(found)


def metric_facts(
    product: ModelProduct, parts: Mapping[Part, ScoredPart], recorded: Mapping[str, float]
) -> tuple[MetricFacts, ...]:
    """Every metric that was recorded of both parts, by its name; those of the gate with the interval of whole days."""
    names = sorted(name.removeprefix("test_") for name in recorded if name.startswith("test_"))
    intervals = {part: _intervals(product, scored) for part, scored in parts.items()}
    return tuple(
        MetricFacts(
            metric=name,
            validation=_told(recorded.get(f"validation_{name}")),
            test=_told(recorded.get(f"test_{name}")),
            validation_interval=intervals["validate"].get(name),
            test_interval=intervals["test"].get(name),
        )
        for name in names
    )


def slice_facts(product: ModelProduct, test: ScoredPart) -> tuple[SliceFacts, ...]:
    """The test part by the values of what the card shows slices of."""
    least = product.card.minimum_rows
    found = by_slice(product, test.rows, test.scores, product.card_slices, minimum_rows=least)
    return tuple(
        SliceFacts(
            column=each.column,
            value=each.value,
            rows=each.rows,
            metrics={name: value for name, value in each.metrics.items() if math.isfinite(value)},
        )
        for each in found
    )


def fairness_facts(product: ModelProduct, test: ScoredPart) -> tuple[FairnessFacts, ...]:
    """For each such column, how far the worst group is behind the mean, and how unlike positives are found."""
    limits = product.gate.fairness
    least = product.card.minimum_rows
    asked = limits or (Fairness(by=product.card_slices, minimum_rows=least) if product.card_slices else None)
    if asked is None:
        return ()
    return tuple(
        FairnessFacts(column=column, what="gap" if what == "gap" else "opportunity", seen=seen, between=group)
        for column in asked.by
        for what, (seen, group) in group_gaps(product, asked, test.rows, test.scores, column).items()
    )


def rule_facts(rules: Sequence[GateRule]) -> tuple[RuleFacts, ...]:
    """The gate's rules as they were met."""
    return tuple(
        RuleFacts(
            subject=rule.subject,
            name=rule.name,
            seen=rule.seen,
            bound=rule.bound,
            limit=rule.limit,
            is_met=rule.is_met,
        )
        for rule in rules
    )


def _intervals(product: ModelProduct, part: ScoredPart) -> dict[str, Interval]:
    """By metric, as it is recorded."""
    gate = product.gate
    extra = gate.improvement.metric if gate.improvement else None
    asked: list[Metric] = [name for name in METRICS[product.task] if name in (gate.metric, extra)]
    days, rows = part.rows[product.population.event_time].dt.date(), measured(product, part.rows, part.scores)
    found = {
        gate.metric_name if name == gate.metric else str(name): metric_interval(
            name, days, rows, confidence=CONFIDENCE, samples=_DRAWS, seed=product.training.seed, k=gate.k
        )
        for name in asked
    }
    return {name: interval for name, interval in found.items() if interval is not None}


def _told(value: float | None) -> float | None:
    """A number that JSON can say."""
    return value if value is not None and math.isfinite(value) else None
