"""The promotion gate's rules: what a candidate shows beside what it must."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from configs.gates import PromotionGate
from mlway_assets.compute.improvement import Better

Bound = Literal["at least", "more than", "at most"]
Subject = Literal[
    "limit",
    "baseline",
    "champion",
    "coverage",
    "slices",
    "calibration",
    "fairness",
    "importance",
    "behaviour",
    "cost",
    "plausible",
]
"""What a rule is about; each is a check of its own."""


@dataclass(frozen=True)
class GateRule:
    """One rule: what was seen beside what was expected."""

    subject: Subject
    name: str
    seen: float
    bound: Bound
    limit: float

    @property
    def is_met(self) -> bool:
        """Whether the candidate passes this rule; a value that is not a number never does."""
        if self.bound == "more than":
            return self.seen > self.limit
        return self.seen >= self.limit if self.bound == "at least" else self.seen <= self.limit


def metric_rules(
    gate: PromotionGate,
    candidate: Mapping[str, float],
    champion: Mapping[str, float] | None,
    baseline: Mapping[str, float] | None = None,
    better: Better | None = None,
) -> list[GateRule]:
    """The rules of the gate's metric, for metrics that all were reached on the same rows.

    `champion` and `baseline` are held against the candidate in the metric's own direction. Where `better` says by how
    much the candidate beats the champion, and how surely, that is what counts.
    """
    metric, seen = gate.metric_name, candidate[gate.metric_name]
    bound: Bound = "at most" if gate.is_lower_better else "at least"
    # Worse is up where less is better, and down where more is.
    worse = 1 if gate.is_lower_better else -1
    limit = "maximum" if gate.is_lower_better else "minimum"
    rules = [GateRule("limit", f"{metric} is {bound} the {limit}", seen, bound, gate.limit)]
    if gate.baseline_margin is not None and baseline is not None:
        allowed = baseline[metric] - worse * gate.baseline_margin
        rules.append(
            GateRule("baseline", f"{metric} is better than the baseline's by the margin", seen, bound, allowed)
        )
    if gate.improvement is not None and better is not None:
        name = f"{better.metric} is better than the champion's, with {better.confidence:.0%} confidence"
        rules.append(GateRule("champion", name, better.low, "more than", gate.improvement.margin))
    elif champion is not None:
        allowed = champion[metric] + worse * gate.champion_margin
        rules.append(GateRule("champion", f"{metric} is no worse than the champion's", seen, bound, allowed))
    return rules + _coverage_rules(gate, candidate)


def has_shown_improvement(rules: Sequence[GateRule]) -> bool:
    """Whether the candidate was held beside the champion, on the same rows, and is surely better."""
    return any(rule.subject == "champion" and rule.bound == "more than" and rule.is_met for rule in rules)


def _coverage_rules(gate: PromotionGate, candidate: Mapping[str, float]) -> list[GateRule]:
    if gate.coverage is None:
        return []
    seen = candidate["coverage"]
    return [
        GateRule("coverage", "coverage is at least the minimum", seen, "at least", gate.coverage.minimum),
        GateRule("coverage", "coverage is at most the maximum", seen, "at most", gate.coverage.maximum),
    ]


def subjects(gate: PromotionGate) -> Sequence[Subject]:
    """What this gate has rules about."""
    asked: dict[Subject, object] = {
        "baseline": gate.baseline_margin,
        "coverage": gate.coverage,
        "slices": gate.slices,
        "calibration": gate.calibration,
        "fairness": gate.fairness,
        "importance": gate.importance,
        "behaviour": gate.behaviour,
    }
    return ["limit", "champion", "cost", "plausible", *(name for name, rule in asked.items() if rule is not None)]
