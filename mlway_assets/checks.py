"""Results of asset checks: what was seen beside what was expected."""

from collections.abc import Sequence

import dagster as dg

from configs.catalogue import CatalogueWarning
from mlway_assets.compute.gate import GateRule
from mlway_assets.contracts import Violations

CATALOGUE = "catalogue"
CONTRACT = "contract"
GATE = "gate"
QUARANTINED_SHARE = "quarantined_share"


def catalogue_check(warnings: Sequence[CatalogueWarning]) -> dg.AssetCheckResult:
    """Passes when the catalogue of features has nothing to warn of; a warning never stops a run."""
    return dg.AssetCheckResult(
        check_name=CATALOGUE,
        passed=not warnings,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(warning.message for warning in warnings) or "Every feature is owned and used.",
        metadata={"warnings": dg.MetadataValue.json([warning.__dict__ for warning in warnings])},
    )


def contract_check(broken: Violations) -> dg.AssetCheckResult:
    """Passes when the table's pandera contract holds for every row that is left after quarantine."""
    return dg.AssetCheckResult(
        check_name=CONTRACT,
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR,
        description="The contract is broken." if broken else "Every row keeps the contract.",
        metadata={"violations": dg.MetadataValue.json([*broken.of_the_whole, *list(broken.rows.values())[:20]])},
    )


def quarantined_share_check(share: float, maximum: float) -> dg.AssetCheckResult:
    """Passes when no more than the stated share of rows was quarantined."""
    return dg.AssetCheckResult(
        check_name=QUARANTINED_SHARE,
        passed=share <= maximum,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{share:.4%} of the rows were quarantined; at most {maximum:.4%} may be.",
        metadata={"share": share, "maximum": maximum},
    )


def gate_check(rules: list[GateRule]) -> dg.AssetCheckResult:
    """Passes when the candidate meets every rule."""
    rows = [
        f"| {rule.name} | {rule.seen:.4f} | {rule.at_least:.4f} | {'yes' if rule.is_met else 'no'} |" for rule in rules
    ]
    table = "\n".join(["| rule | seen | at least | met |", "|---|---|---|---|", *rows])
    broken = [rule.name for rule in rules if not rule.is_met]
    return dg.AssetCheckResult(
        check_name=GATE,
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"Not met: {'; '.join(broken)}." if broken else "Every rule is met.",
        metadata={"rules": dg.MetadataValue.md(table)},
    )
