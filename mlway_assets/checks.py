"""Results of asset checks: what was seen beside what was expected."""

from collections.abc import Mapping, Sequence
from math import nan

import dagster as dg

from configs.catalogue import CatalogueWarning
from mlway_assets.compute.drift_judgement import DayDrift, Finding
from mlway_assets.compute.gate import GateRule, Subject
from mlway_assets.compute.monitoring_plots import Bar, limits_plot
from mlway_assets.compute.quarantine import Curated
from mlway_assets.contracts import Violations
from mlway_assets.leakage import LeakReport
from mlway_assets.metadata import picture
from mlway_assets.online_skew import SkewReport
from mlway_assets.parity import ParityReport
from serving.decision_segments import ChainError

CATALOGUE = "catalogue"
CHAIN = "chain"
CONTRACT = "contract"
FEATURE_FRESHNESS = "feature_freshness"
INPUT_DRIFT = "input_drift"
NO_LEAK = "no_leak"
ONLINE_SKEW = "online_skew"
PARITY = "parity"
PREDICTION_DRIFT = "prediction_drift"
QUALITY = "quality"
QUARANTINED_SHARE = "quarantined_share"
SERVED_QUALITY = "served_quality"
SERVICE_HEALTH = "service_health"
SERVING_SKEW = "serving_skew"
_MOST_COLUMNS = 15
_NO_RULE: Mapping[Subject, str] = {
    "champion": "There is no champion yet, or it needs features that the new rows lack: nothing was compared. In the "
    "place of a champion a version comes by a person's approval.",
    "fairness": "Fewer than two groups have the rows that the gate asks for: nothing was compared.",
    "slices": "No champion scores these rows yet, or no slice has as many as the gate asks for: nothing was compared.",
}
"""What is said of a subject about which no rule came to be."""


def catalogue_check(warnings: Sequence[CatalogueWarning]) -> dg.AssetCheckResult:
    """Passes when the catalogue of features has nothing to warn of; a warning never stops a run."""
    return dg.AssetCheckResult(
        check_name=CATALOGUE,
        passed=not warnings,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(warning.message for warning in warnings) or "Every feature is owned and used.",
        metadata={"warnings": dg.MetadataValue.json([warning.__dict__ for warning in warnings])},
    )


def chain_check(broken: Sequence[ChainError]) -> dg.AssetCheckResult:
    """Passes when every record of the decision log that was read follows from the one before it."""
    first = [str(error).splitlines()[0] for error in broken]
    return dg.AssetCheckResult(
        check_name=CHAIN,
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(first[:3]) or "Every record follows from the one before it.",
        metadata={"broken": dg.MetadataValue.json(first[:20])},
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


def quarantined_share_check(curated: Curated, maximum: float) -> dg.AssetCheckResult:
    """Passes when no more than the stated share of rows was quarantined; copies of rows that are kept do not count."""
    share, reasons = curated.broken_share, curated.frequent_reasons
    told = "".join(f" {rows:,}: {reason}." for reason, rows in reasons[:3])
    return dg.AssetCheckResult(
        check_name=QUARANTINED_SHARE,
        passed=share <= maximum,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{share:.4%} of the rows were quarantined; at most {maximum:.4%} may be.{told}",
        metadata={"share": share, "maximum": maximum, "reasons": dg.MetadataValue.json(dict(reasons))},
    )


def parity_check(report: ParityReport) -> dg.AssetCheckResult:
    """Passes when every way to a value gives the same bits."""
    shown = report.differences[:20]
    rows = [f"| {d.path} | {d.group} | {d.feature} | {d.entity} | {d.expected} | {d.seen} |" for d in shown]
    table = "\n".join(["| way | group | feature | entity | in history | there |", "|---|---|---|---|---|---|", *rows])
    compared = ", ".join(f"{count:,} {path}" for path, count in report.compared.items())
    found = f"{len(report.differences):,} values differ" if report.differences else "every value is the same"
    return dg.AssetCheckResult(
        check_name=PARITY,
        passed=report.is_equal,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"Compared: {compared or 'nothing'}; {found}.",
        metadata={"compared": report.compared, "differences": dg.MetadataValue.md(table)},
    )


def no_leak_check(report: LeakReport) -> dg.AssetCheckResult:
    """Passes when rows are the same after everything later than them was poisoned."""
    differing = ", ".join(report.leaking) or "nothing, but there was nothing to compare"
    what = "come out the same" if report.is_clean else f"differ in {differing}"
    return dg.AssetCheckResult(
        check_name=NO_LEAK,
        passed=report.is_clean,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{report.rows:,} rows up to {report.moment:%Y-%m-%d %H:%M}, built again after {report.poisoned:,} "
        f"later or later written values were poisoned, {what}.",
        metadata={
            "recorded_sha256": report.recorded_sha256,
            "rebuilt_sha256": report.rebuilt_sha256,
            "leaking": dg.MetadataValue.json(list(report.leaking)),
        },
    )


def online_skew_check(report: SkewReport) -> dg.AssetCheckResult:
    """Passes when few features lie past their limits."""
    rows = [
        f"| {f.feature} | {f.outside_share:.1%} | {f.missing_online:.1%} | {f.missing_in_training:.1%} |"
        for f in sorted(report.features, key=lambda f: -max(f.outside_share, f.missing_difference))
    ]
    head = ["| feature | outside the training range | null online | null in training |", "|---|---|---|---|"]
    return dg.AssetCheckResult(
        check_name=ONLINE_SKEW,
        passed=report.is_within_limits,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"Over {report.rows:,} request rows {len(report.broken)} of {len(report.features)} features are "
        f"past a limit; {report.limits.maximum_skewed_share:.0%} may be.",
        metadata={
            "past_a_limit": dg.MetadataValue.json([found.feature for found in report.broken]),
            "features": dg.MetadataValue.md("\n".join([*head, *rows])),
        },
    )


def drift_check(name: str, found: DayDrift) -> dg.AssetCheckResult:
    """Passes when no more columns have drifted than may; it warns, and stops nothing."""
    shown = found.findings[:_MOST_COLUMNS]
    rows = [
        f"| {each.drift.name} | {each.drift.psi:.3f} | {each.psi_limit:.3f} | {each.drift.distance:.3f} | "
        f"{each.drift.missing_share:.1%} | {each.drift.expected_missing_share:.1%} | {each.drift.unseen_share:.1%} | "
        f"{', '.join(each.past)} |"
        for each in shown
    ]
    head = "| column | PSI | limit | KS or JS distance | missing | missing before | never seen | past |"
    table = "\n".join([head, "|---" * 8 + "|", *rows])
    return dg.AssetCheckResult(
        check_name=name,
        passed=found.is_within_limits,
        severity=dg.AssetCheckSeverity.WARN,
        description=drift_told(found),
        metadata={
            "drifted": dg.MetadataValue.json([each.drift.name for each in found.drifted]),
            "columns": dg.MetadataValue.md(table),
            "picture": picture(limits_plot(_drift_bars(shown))),
        },
    )


def _drift_bars(shown: Sequence[Finding]) -> dict[str, list[Bar]]:
    """By measure; what is missing is marked with how much of it was before, what was never seen with nothing."""
    return {
        "Population stability index": [
            Bar(each.drift.name, each.drift.psi, each.psi_limit, "psi" in each.past) for each in shown
        ],
        "Share that is missing (mark: that was)": [
            Bar(each.drift.name, each.drift.missing_share, each.drift.expected_missing_share, "missing" in each.past)
            for each in shown
        ],
        "Share that was never seen": [
            Bar(each.drift.name, each.drift.unseen_share, nan, "unseen" in each.past) for each in shown
        ],
    }


def drift_told(found: DayDrift) -> str:
    """What was found of a day, in a sentence or a few."""
    days = f"{found.days} days up to {found.day}"
    if not found.is_told:
        needed = f"at least {found.minimum_rows:,} of {found.least_days} days must be there"
        return f"{found.rows:,} rows of {days} are too few: {needed}."
    if len(found.findings) == 1:
        [only] = found.findings
        seen = f"PSI {only.drift.psi:.3f} over {found.rows:,} rows of {days}; {only.psi_limit:.3f} it may be."
        return f"{seen} {_cause(only)}."
    said = (
        f"Of {len(found.findings)} columns {len(found.drifted)} have drifted over {found.rows:,} rows of {days}; "
        f"{found.most_drifted} may."
    )
    return " ".join([said, *(f"{_cause(each)}." for each in found.drifted[:3])])


def _cause(found: Finding) -> str:
    drift = found.drift
    if "missing" in found.past:
        return f"{drift.name}: {drift.missing_share:.0%} are missing, {drift.expected_missing_share:.0%} were before"
    if "unseen" in found.past:
        return f"{drift.name}: {drift.unseen_share:.0%} are values that were never seen"
    if drift.most_moved is None:
        return f"{drift.name}: PSI {drift.psi:.2f}"
    part, before, now = drift.most_moved.part, drift.most_moved.expected_share, drift.most_moved.seen_share
    return f"{drift.name}: {now:.0%} are {part}, {before:.0%} were (PSI {drift.psi:.2f})"


def gate_checks(asked: Sequence[Subject], rules: Sequence[GateRule]) -> list[dg.AssetCheckResult]:
    """A check for each of the subjects: it passes when the candidate meets all rules about it."""
    return [_gate_check(subject, [rule for rule in rules if rule.subject == subject]) for subject in asked]


def gate_name(subject: Subject) -> str:
    """The check of the gate's rules about a subject."""
    return f"gate_{subject}"


def _gate_check(subject: Subject, rules: Sequence[GateRule]) -> dg.AssetCheckResult:
    rows = [
        f"| {rule.name} | {rule.seen:.4f} | {rule.bound} {rule.limit:.4f} | {'yes' if rule.is_met else 'no'} |"
        for rule in rules
    ]
    table = "\n".join(["| rule | seen | expected | met |", "|---|---|---|---|", *rows])
    broken = [f"{rule.name}: {rule.seen:.4f}, not {rule.bound} {rule.limit:.4f}" for rule in rules if not rule.is_met]
    met = (
        "Every rule is met." if rules else _NO_RULE.get(subject, "There is nothing to hold the candidate against yet.")
    )
    return dg.AssetCheckResult(
        check_name=gate_name(subject),
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"Not met: {'; '.join(broken)}." if broken else met,
        metadata={"rules": dg.MetadataValue.md(table)},
    )
