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
    originals: pl.DataFrame
    """The original values of `rows`, in their order."""

    def without(self, reasons: Mapping[int, str]) -> "Curated":
        """Quarantine more rows: row number to reason."""
        if not reasons:
            return self
        numbers = sorted(reasons)
        bad = self.originals[numbers]
        day = self.rows.select("event_day")[numbers] if "event_day" in self.rows.columns else pl.DataFrame()
        more = pl.DataFrame({REASON: [reasons[number] for number in numbers], ORIGINAL: _as_json(bad)})
        keep = pl.Series(range(len(self.rows))).is_in(numbers).not_()
        return Curated(
            self.rows.filter(keep),
            pl.concat([self.quarantined, pl.concat([day, more], how="horizontal")]),
            self.originals.filter(keep),
        )


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
    bad, good = judged.filter(pl.col(REASON).is_not_null()), judged.filter(pl.col(REASON).is_null())
    day = ["event_day"] if "event_day" in frame.columns else []
    return Curated(
        rows=good.select(columns),
        quarantined=bad.select(*day, REASON).with_columns(_as_json(bad.select(original)).alias(ORIGINAL)),
        originals=good.select(original),
    )


def _as_json(rows: pl.DataFrame) -> pl.Series:
    return rows.select(pl.struct(pl.all()).struct.json_encode()).to_series()
