"""The promotion gate: what a candidate must show before it is registered."""

from dataclasses import dataclass

from configs.products import PromotionGate


@dataclass(frozen=True)
class GateRule:
    """One rule: what was seen beside what was expected."""

    name: str
    seen: float
    at_least: float

    @property
    def is_met(self) -> bool:
        """Whether the candidate passes this rule; a value that is not a number never does."""
        return self.seen >= self.at_least


def gate_rules(gate: PromotionGate, candidate: dict[str, float], champion: dict[str, float] | None) -> list[GateRule]:
    """The gate's rules for metrics that both models reached on the same validation rows."""
    seen = candidate[gate.metric]
    rules = [GateRule(f"{gate.metric} is at least the minimum", seen, gate.minimum)]
    if champion is not None:
        rules.append(
            GateRule(
                f"{gate.metric} is no worse than the champion's", seen, champion[gate.metric] - gate.champion_margin
            )
        )
    return rules
