"""Rows that break a rule leave the table, with the reason and their original values."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

REASON = "quarantine_reason"
ORIGINAL = "original"


@dataclass(frozen=True)
class Curated:
    """Rows that keep the rules, and those that do not, with `event_day`, the reason and the original values as JSON."""

    rows: pl.DataFrame
    quarantined: pl.DataFrame


def split_by_rules(
    frame: pl.DataFrame, rules: Mapping[str, pl.Expr], columns: list[str], original: list[str]
) -> Curated:
    """Part `frame` by `rules`: reason to the condition that breaks it; the first that holds is the reason.

    `columns` are kept of the good rows; `original` are the columns of the bad rows that are kept as JSON.
    """
    reason = pl.coalesce(
        *(pl.when(broken.fill_null(False)).then(pl.lit(name)) for name, broken in rules.items()),
        pl.lit(None, dtype=pl.String),
    )
    judged = frame.with_columns(reason.alias(REASON))
    bad = judged.filter(pl.col(REASON).is_not_null())
    day = [pl.col("event_day")] if "event_day" in frame.columns else []
    return Curated(
        rows=judged.filter(pl.col(REASON).is_null()).select(columns),
        quarantined=bad.select(*day, REASON, pl.struct(original).struct.json_encode().alias(ORIGINAL)),
    )
