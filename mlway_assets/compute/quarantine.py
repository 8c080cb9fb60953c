"""Rows that break a rule leave the table, with the reason and their original values."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

REASON = "quarantine_reason"
ORIGINAL = "original"
COPY = "another row is the same in every column"
"""The one reason that is no fault of the row: the row that is kept says all that it says."""


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
        why = pl.Series([reasons[number] for number in numbers])
        keep = pl.Series(range(len(self.rows))).is_in(numbers).not_()
        return Curated(
            self.rows.filter(keep),
            pl.concat([self.quarantined, _quarantined(self.rows[numbers], self.originals[numbers], why)]),
            self.originals.filter(keep),
        )

    def with_copies(self, copies: pl.DataFrame) -> "Curated":
        """Beside these rows, copies of them as they were received."""
        reason = pl.repeat(COPY, len(copies), eager=True, dtype=pl.String)
        return replace(self, quarantined=pl.concat([self.quarantined, _quarantined(copies, copies, reason)]))

    @property
    def copies(self) -> int:
        """How many of the quarantined rows are copies of others."""
        return int((self.quarantined[REASON] == COPY).sum())

    @property
    def broken_share(self) -> float:
        """Those that break a rule among all rows, where each counts once."""
        broken = len(self.quarantined) - self.copies
        total = len(self.rows) + broken
        return broken / total if total else 0.0

    @property
    def frequent_reasons(self) -> list[tuple[str, int]]:
        """Why rows are quarantined, and how many, the most frequent first."""
        counted = self.quarantined.group_by(REASON).len().sort("len", REASON, descending=[True, False])
        return [(str(reason), int(rows)) for reason, rows in counted.iter_rows()]


def without_copies(raw: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of `raw`, each once, and those that are copies of them: of a delivery that came twice."""
    is_first = raw.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    return raw.filter(is_first), raw.filter(~is_first)


def split_by_rules(
    frame: pl.DataFrame, rules: Mapping[str, pl.Expr], columns: list[str], original: list[str]
) -> Curated:
    """Part `frame` by `rules`: reason to the condition that breaks it; the first that holds is the reason.

    `columns` are kept of the good rows; `original` are the columns of the bad rows that are kept as JSON.
    """
    reason = frame.select(first_reason(rules)).to_series()
    return split_by_reason(frame.select(columns), frame.select(original), reason)


def first_reason(rules: Mapping[str, pl.Expr]) -> pl.Expr:
    """The reason of the first rule whose condition holds, else null."""
    return pl.coalesce(
        *(pl.when(broken.fill_null(False)).then(pl.lit(name)) for name, broken in rules.items()),
        pl.lit(None, dtype=pl.String),
    )


def split_by_reason(rows: pl.DataFrame, originals: pl.DataFrame, reason: pl.Series) -> Curated:
    """Part `rows`, whose original values are `originals`, by `reason`, which is null for a good row."""
    is_good = reason.is_null()
    return Curated(
        rows.filter(is_good),
        _quarantined(rows.filter(~is_good), originals.filter(~is_good), reason.drop_nulls()),
        originals.filter(is_good),
    )


def _quarantined(rows: pl.DataFrame, originals: pl.DataFrame, reason: pl.Series) -> pl.DataFrame:
    day = [rows["event_day"]] if "event_day" in rows.columns else []
    return pl.DataFrame([*day, reason.alias(REASON), _as_json(originals).alias(ORIGINAL)])


def _as_json(rows: pl.DataFrame) -> pl.Series:
    return rows.select(pl.struct(pl.all()).struct.json_encode()).to_series()
