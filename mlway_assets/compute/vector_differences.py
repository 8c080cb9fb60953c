"""Hold feature vectors as they were logged against those of the lake, and tell which values were behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

LOGGED, LAKE, AGE, MOMENT = "logged ", "lake ", "age ", "moment "
"""Prefixes of the columns of one frame: a feature's number here and there; a view's seconds here, its moment there."""
_BEHIND = "behind "
_ROUNDING_MICROSECONDS = 1_000
"""Ages are logged as seconds."""


@dataclass(frozen=True)
class FeatureDifference:
    """How many of a feature's logged values differ from the lake's, and how many of them because they were behind."""

    feature: str
    views: tuple[str, ...]
    """The feature views that it is of or is computed from."""
    rows: int
    differing: int
    behind: int
    example: str | None
    """The first row that differs, one that is not behind if there is any."""
    logged: float | None
    in_lake: float | None

    @property
    def differing_share(self) -> float:
        """Of the values, those that differ and were not behind."""
        return (self.differing - self.behind) / self.rows if self.rows else 0.0

    @property
    def behind_share(self) -> float:
        """Of the values, those that differ since the online store had not been told yet."""
        return self.behind / self.rows if self.rows else 0.0


def vector_differences(
    rows: pl.DataFrame, views_of: Mapping[str, Sequence[str]], tolerance: float = 0.0
) -> list[FeatureDifference]:
    """Compare each feature that both sides have.

    `rows` have `name`, `at` and `answered_at` beside the prefixed columns; what is missing is NaN, and a
    logged null says that nothing was logged. `views_of` are the views that each feature comes from.
    """
    views = sorted({view for used in views_of.values() for view in used if AGE + view in rows.columns})
    rows = rows.sort("answered_at").with_columns(_is_behind(view).alias(_BEHIND + view) for view in views)
    features = [name for name in views_of if {LOGGED + name, LAKE + name} <= set(rows.columns)]
    return [_difference(rows, name, [view for view in views_of[name] if view in views], tolerance) for name in features]


def _is_behind(view: str) -> pl.Expr:
    """Whether the lake had a value that is younger than all that the online store had given by then."""
    given = pl.col("at").to_physical() - (pl.col(AGE + view) * 1e6).round().cast(pl.Int64)
    newest = given.cum_max().forward_fill()
    there = pl.col(MOMENT + view).to_physical()
    return there.is_not_null() & (newest.is_null() | (there > newest + _ROUNDING_MICROSECONDS)).fill_null(value=True)


def _difference(rows: pl.DataFrame, name: str, views: Sequence[str], tolerance: float) -> FeatureDifference:
    logged, lake = pl.col(LOGGED + name), pl.col(LAKE + name)
    near = (logged - lake).abs() <= tolerance * pl.max_horizontal(logged.abs(), lake.abs())
    compared = rows.filter(logged.is_not_null()).select(
        "name",
        logged.alias("logged"),
        lake.alias("lake"),
        # NaN is NaN here, and no number is near it.
        (~(logged.eq(lake) | near)).alias("differs"),
        pl.any_horizontal(pl.lit(value=False), *(pl.col(_BEHIND + view) for view in views)).alias("behind"),
    )
    differing = compared.filter("differs").sort("behind", maintain_order=True)
    first = differing.row(0, named=True) if len(differing) else {"name": None, "logged": None, "lake": None}
    return FeatureDifference(
        feature=name,
        views=tuple(views),
        rows=len(compared),
        differing=len(differing),
        behind=int(differing["behind"].sum()),
        example=first["name"],
        logged=first["logged"],
        in_lake=first["lake"],
    )
