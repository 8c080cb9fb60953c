"""What the checks of serving say: figures, a picture, and the feature, group or part that is suspected."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from mlway_assets.compute.monitoring_plots import Bar, limits_plot
from mlway_assets.compute.vector_differences import FeatureDifference
from mlway_assets.feature_freshness import DayFreshness, GroupFreshness
from mlway_assets.metadata import picture
from mlway_assets.service_health import BASELINE, DayHealth
from mlway_assets.serving_skew import DaySkew

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ROWS = 15


def serving_skew_check(name: str, found: DaySkew) -> dg.AssetCheckResult:
    """Passes when the features that answers were made from were those of the lake; it warns, and stops nothing."""
    shown, limits = found.features[:_MOST_ROWS], found.limits
    rows = [
        f"| {each.feature} | {each.rows:,} | {each.differing_share:.1%} | {each.behind_share:.1%} | "
        f"{_number(each.logged)} | {_number(each.in_lake)} | {each.example or ''} |"
        for each in shown
    ]
    head = "| feature | values | differ | behind | logged | in the lake | for example |"
    differing, behind = limits.maximum_differing_share, limits.maximum_behind_share
    measures = {
        "Share of values that differ": [
            Bar(each.feature, each.differing_share, differing, each.differing_share > differing) for each in shown
        ],
        "Share of values that are behind": [
            Bar(each.feature, each.behind_share, behind, each.behind_share > behind) for each in shown
        ],
    }
    pictured = None if found.is_within_limits else limits_plot(measures)
    return _warning(
        name, _skew_told(found), [each.feature for each in found.past], {"features": [head, *rows]}, pictured
    )


def _warning(
    name: str, told: str, past: Sequence[str], tables: Mapping[str, Sequence[str]], pictured: "Figure | None"
) -> dg.AssetCheckResult:
    """Passed unless there is something to picture. A table's first line is its head."""
    return dg.AssetCheckResult(
        check_name=name,
        passed=pictured is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=told,
        metadata={
            "past_a_limit": dg.MetadataValue.json(list(past)),
            **{title: dg.MetadataValue.md(_table(*lines)) for title, lines in tables.items()},
            **({} if pictured is None else {"picture": picture(pictured)}),
        },
    )


def _table(head: str, *rows: str) -> str:
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows])


def _skew_told(found: DaySkew) -> str:
    if not found.is_told:
        hidden = f" The log hides what {found.hidden:,} were about." if found.hidden else ""
        return f"{found.rows:,} rows of models on {found.day} are too few to say anything.{hidden}"
    limits = found.limits
    said = (
        f"Of {len(found.features)} features {len(found.past)} are past a limit over {found.rows:,} logged rows of "
        f"{found.day}: {limits.maximum_differing_share:.1%} of the values may differ from the lake's, and "
        f"{limits.maximum_behind_share:.0%} may be behind it."
    )
    return " ".join([said, *(f"{_skew_cause(found, each)}." for each in found.past[:3])])


def _skew_cause(found: DaySkew, each: FeatureDifference) -> str:
    example = f"such as {_number(each.logged)} for {_number(each.in_lake)} in {each.example}"
    if each.differing_share > found.limits.maximum_differing_share:
        return f"{each.feature}: {each.differing_share:.1%} differ, {example}"
    return (
        f"{each.feature}: {each.behind_share:.1%} are behind, for the online store had not been given what was known "
        f"of {', '.join(each.views)}, {example}"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def freshness_check(name: str, found: DayFreshness) -> dg.AssetCheckResult:
    """Passes when the values that answers were made from were young enough; it warns, and stops nothing."""
    rows = [
        f"| {each.group} | {each.missing_share:.1%} | {each.expired_share:.1%} | {_age(each.median_seconds)} | "
        f"{_age(each.p95_seconds)} | {_age(each.time_to_live.total_seconds() or None)} | {', '.join(each.past)} |"
        for each in found.groups
    ]
    head = "| group | missing | expired | median age | 95% are younger than | time to live | past |"
    expired, ages = found.limits.maximum_expired_share, found.limits.maximum_ages
    measures = {
        "Share of expired values": [
            Bar(each.group, each.expired_share, expired, "expired" in each.past) for each in found.groups
        ],
        "Hours that 95% are younger than": [
            Bar(each.group, (each.p95_seconds or 0) / 3600, ages[each.group] / timedelta(hours=1), "age" in each.past)
            for each in found.groups
            if each.group in ages
        ],
    }
    pictured = None if found.is_within_limits else limits_plot(measures)
    return _warning(
        name, _freshness_told(found), [each.group for each in found.past], {"groups": [head, *rows]}, pictured
    )


def _freshness_told(found: DayFreshness) -> str:
    if not found.is_told:
        return f"{found.rows:,} rows of models on {found.day} are too few to say anything."
    over = f"over {found.rows:,} logged rows of {found.day}"
    said = f"Of {len(found.groups)} groups {len(found.past)} are past a limit {over}."
    return " ".join([said, *(f"{_freshness_cause(found, each)}." for each in found.past[:3])])


def _freshness_cause(found: DayFreshness, each: GroupFreshness) -> str:
    if "expired" in each.past:
        lives = _age(each.time_to_live.total_seconds())
        allowed = found.limits.maximum_expired_share
        return f"{each.group}: {each.expired_share:.0%} of the values are older than {lives}; {allowed:.0%} may be"
    allowed_age = _age(found.limits.maximum_ages[each.group].total_seconds())
    return f"{each.group}: 95% of the values are younger than {_age(each.p95_seconds)}; {allowed_age} they may be"


def health_check(name: str, found: DayHealth) -> dg.AssetCheckResult:
    """Passes when the endpoint answered fast, with its models and the whole platform; it warns, and stops nothing."""
    models = [f"| {model} | {count:,} |" for model, count in found.models.items()]
    failed = [f"| {reason} | {count:,} |" for reason, count in found.failed.items()]
    hours = [
        f"| {each['hour']} | {each['model']} | {each['requests']:,} | {each['rows']:,} | {each['degraded']:,} | "
        f"{each['median_milliseconds']:.2f} | {each['p99_milliseconds']:.2f} |"
        for each in found.hours.iter_rows(named=True)
    ]
    tables = {
        "models": ["| model | requests |", *models],
        "failed": ["| why | requests |", *failed],
        "hours": ["| hour | model | requests | rows | degraded | median ms | 99% ms |", *hours],
    }
    limits, slowest = found.limits, found.p99_milliseconds or 0.0
    measures = {
        "Share of requests": [
            Bar(kind, share, limit, kind in found.past) for kind, (share, limit, _) in found.shares.items()
        ],
        "Milliseconds within which 99% were answered": [
            Bar("slow", slowest, limits.maximum_milliseconds, "slow" in found.past)
        ],
        "Requests": [Bar("silent", float(found.requests), float(limits.minimum_requests), "silent" in found.past)],
    }
    pictured = None if found.is_within_limits else limits_plot(measures)
    return _warning(name, _health_told(found), found.past, tables, pictured)


def _health_told(found: DayHealth) -> str:
    if not found.requests and not found.failed:
        said = f"Nobody was answered on {found.day}."
    else:
        models = ", ".join(f"{model}: {count:,}" for model, count in found.models.items())
        took = f", half within {found.p50_milliseconds:.1f} ms" if found.p50_milliseconds is not None else ""
        said = f"{found.requests:,} requests were answered on {found.day} ({models}){took}."
    return " ".join([said, *(f"{_health_cause(found, kind)}." for kind in found.past)])


def _health_cause(found: DayHealth, kind: str) -> str:
    if kind == "silent":
        return f"{found.limits.minimum_requests:,} there should be at least"
    if kind == "slow":
        return (
            f"1% took longer than {found.p99_milliseconds:.0f} ms; {found.limits.maximum_milliseconds:.0f} ms they may"
        )
    share, limit, cause = found.shares[kind]
    what = {"degraded": "lacked a part", BASELINE: "are the baseline's", "failed": "failed"}[kind]
    return f"{share:.1%} {what}, {limit:.1%} may{f', most of all {cause}' if cause else ''}"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
