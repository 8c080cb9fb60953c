"""What the check of quality on late labels says: figures by day and by slice, a picture, and what is suspected."""

import dagster as dg

from mlway_assets.compute.estimates import Estimate
from mlway_assets.compute.monitoring_plots import Bar, limits_plot, quality_plot
from mlway_assets.compute.slice_quality import SliceQuality, suspects
from mlway_assets.metadata import picture
from mlway_assets.quality_reports import QualityReport

_MOST_SLICES = 15


def quality_check(name: str, found: QualityReport) -> dg.AssetCheckResult:
    """Passes unless days are worse than chance allows a champion that is as good as it may be; it stops nothing."""
    measured = [
        (each.day, each.estimates[found.metric].value, each.estimates[found.metric].interval)
        for each in found.days
        if found.metric in each.estimates
    ]
    comparison = found.verdict.comparison
    pictures = (
        {}
        if comparison is None
        else {"picture": picture(quality_plot(found.metric, measured, comparison.expected_mean))}
    )
    return dg.AssetCheckResult(
        check_name=name,
        passed=found.is_within_limits,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{_told(found)} {_suspected(found)}".strip(),
        metadata={
            "days": dg.MetadataValue.md(_days(found)),
            "slices": dg.MetadataValue.md(_slices(found)),
            "unlabelled": dg.MetadataValue.int(found.unlabelled),
            **pictures,
            **_slice_picture(found),
        },
    )


def _days(found: QualityReport) -> str:
    """A row for each day with each metric, the watched one first."""
    names = list(dict.fromkeys([found.metric, *(name for each in found.days for name in each.estimates)]))
    rows = [
        f"| {each.day} | {each.rows:,} | {each.labelled:,} | "
        f"{' | '.join(_cell(each.estimates.get(name)) for name in names)} |"
        for each in found.days
    ]
    return "\n".join([f"| day | rows | labelled | {' | '.join(names)} |", "|---" * (3 + len(names)) + "|", *rows])


def _cell(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.4f}{_reach(estimate)}"


def _reach(estimate: Estimate) -> str:
    if estimate.interval is None:
        return ""
    low, high = estimate.interval
    return f" ({low:.4f} to {high:.4f})"


def _slices(found: QualityReport) -> str:
    rows = [
        f"| {each.name} | {each.watched.units:,} | {each.watched.value:.4f}{_reach(each.watched)} | "
        f"{each.expected.value:.4f} | {each.worsening:+.1%} | {each.p_value:.2g} | {'yes' if each.is_past else ''} |"
        for each in found.slices[:_MOST_SLICES]
    ]
    head = f"| slice | rows | {found.metric} | was | worse by | p | past its limit |"
    return "\n".join([head, "|---" * 7 + "|", *rows])


def _slice_picture(found: QualityReport) -> dict[str, dg.MetadataValue]:
    if not any(each.is_past for each in found.slices):
        return {}
    bars = [
        Bar(each.name, each.watched.value, each.expected.value, each.is_past) for each in found.slices[:_MOST_SLICES]
    ]
    return {"picture_of_slices": picture(limits_plot({f"{found.metric} (mark: what it was)": bars}))}


def _suspected(found: QualityReport) -> str:
    if found.is_within_limits or not found.slices:
        return ""
    named = suspects(found.slices)
    if not named:
        return "No slice stands out."
    return f"Suspected: {'; '.join(_blame(each) for each in named)}."


def _blame(each: SliceQuality) -> str:
    moved = f"{abs(each.worsening):.0%} {'worse' if each.worsening > 0 else 'better'}"
    return f"{each.name}, {each.watched.value:.4f} where it was {each.expected.value:.4f} ({moved})"


def _told(found: QualityReport) -> str:
    known = f"{found.labelled:,} of {found.rows:,} rows of the settled days up to {found.day} have labels"
    comparison, change = found.verdict.comparison, found.verdict.change
    if comparison is None:
        hidden = f" The log hides what {found.hidden:,} others were about." if found.hidden else ""
        return f"{known}, too few to say how good the champion is; {found.unlabelled:,} wait for theirs.{hidden}"
    low, high = comparison.interval
    moved = f"{abs(comparison.worsening):.1%} {'worse' if comparison.worsening > 0 else 'better'}"
    sudden = (
        ""
        if change is None
        else f" The newest {change.days} days add up to {change.sum:.1f} deviations beyond usual ones; "
        f"{change.limit:.1f} they may."
    )
    return (
        f"{found.metric} over {comparison.days} days: {comparison.mean:.4f} ({low:.4f} to {high:.4f}), where the "
        f"days that it was judged by had {comparison.expected_mean:.4f}: {moved}. Were it "
        f"{found.limits.maximum_worsening:.0%} worse, as it may be, days like these had p = {comparison.p_value:.2g}."
        f"{sudden} {known}."
    )
