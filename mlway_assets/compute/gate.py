"""The promotion gate: what a candidate must show before it is registered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from configs.tasks import PromotionGate

Bound = Literal["at least", "at most"]


@dataclass(frozen=True)
class GateRule:
    """One rule: what was seen beside what was expected."""

    name: str
    seen: float
    bound: Bound
    limit: float

    @property
    def is_met(self) -> bool:
        """Whether the candidate passes this rule; a value that is not a number never does."""
        return self.seen >= self.limit if self.bound == "at least" else self.seen <= self.limit


def gate_rules(
    gate: PromotionGate,
    candidate: Mapping[str, float],
    champion: Mapping[str, float] | None,
    baseline: Mapping[str, float] | None = None,
) -> list[GateRule]:
    """The gate's rules for metrics that all were reached on the same validation rows.

    `champion` and `baseline` are held against the candidate in the metric's own direction.
    """
    metric, seen = gate.metric_name, candidate[gate.metric_name]
    bound: Bound = "at most" if gate.is_lower_better else "at least"
    # Worse is up where less is better, and down where more is.
    worse = 1 if gate.is_lower_better else -1
    limit = "maximum" if gate.is_lower_better else "minimum"
    rules = [GateRule(f"{metric} is {bound} the {limit}", seen, bound, gate.limit)]
    if gate.baseline_margin is not None and baseline is not None:
        allowed = baseline[metric] - worse * gate.baseline_margin
        rules.append(GateRule(f"{metric} is better than the baseline's by the margin", seen, bound, allowed))
    if champion is not None:
        allowed = champion[metric] + worse * gate.champion_margin
        rules.append(GateRule(f"{metric} is no worse than the champion's", seen, bound, allowed))
    return rules + _coverage_rules(gate, candidate)


def _coverage_rules(gate: PromotionGate, candidate: Mapping[str, float]) -> list[GateRule]:
    if gate.coverage is None:
        return []
    seen = candidate["coverage"]
    return [
        GateRule("coverage is at least the minimum", seen, "at least", gate.coverage.minimum),
        GateRule("coverage is at most the maximum", seen, "at most", gate.coverage.maximum),
    ]
