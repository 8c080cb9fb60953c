"""Results of the checks of delivered days: whether rows and labels came, and in the units that they always had."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from mlway_assets.compute.scale import DAYS_BEFORE, ChangedScale
from mlway_assets.learned_rows import MissingReferenceError
from mlway_assets.quality_reports import QualityReport

LABELS = "labels"
ROWS = "rows"
USUAL_SCALE = "usual_scale"


def rows_check(empty: Sequence[date]) -> dg.AssetCheckResult:
    """Passes when no day came without a row; it marks such a day, and stops nothing."""
    listed = ", ".join(day.isoformat() for day in empty[:10])
    return dg.AssetCheckResult(
        check_name=ROWS,
        passed=not empty,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Without a single row came {listed}. Where that cannot be, deliver the day again."
        if empty
        else "Every day has rows.",
        metadata={"empty_days": dg.MetadataValue.json([day.isoformat() for day in empty])},
    )


def usual_scale_check(found: Sequence[ChangedScale], maximum: float) -> dg.AssetCheckResult:
    """Passes when no column's values are of another size than on the days before, as after a change of unit."""
    told = "; ".join(map(str, found[:3]))
    return dg.AssetCheckResult(
        check_name=USUAL_SCALE,
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{told}: more than {maximum:g} times what it was. Has a unit changed? Deliver the day again, or "
        "let more pass by `maximum_scale_change`."
        if found
        else f"No column is {maximum:g} times greater or smaller than on each of the {DAYS_BEFORE} days before it.",
        metadata={"changed": dg.MetadataValue.json([str(each) for each in found[:20]])},
    )


def labels_check(name: str, found: QualityReport) -> dg.AssetCheckResult:
    """Passes when the days that are old enough have their labels; it marks the others, of which nothing is said."""
    days = found.without_labels
    rows, missing = sum(each.rows for each in days), sum(each.rows - each.labelled for each in days)
    listed = ", ".join(each.day.isoformat() for each in days)
    return dg.AssetCheckResult(
        check_name=name,
        passed=not days,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{missing:,} of {rows:,} labels are missing of {listed}: how good scores of these days were "
        f"is not known. They should have come within {found.limits.label_delay}."
        if days
        else "Days that are old enough have their labels.",
        metadata={"missing_labels": missing, "days": dg.MetadataValue.json([each.day.isoformat() for each in days])},
    )


def unwatched_check(name: str, gone: MissingReferenceError) -> dg.AssetCheckResult:
    """Fails, and stops nothing: there is nothing to hold the days against."""
    return dg.AssetCheckResult(
        check_name=name, passed=False, severity=dg.AssetCheckSeverity.WARN, description=str(gone)
    )
