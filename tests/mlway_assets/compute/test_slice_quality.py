"""Quality by slice: the part that has become worse is found, and no other is blamed."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from configs.load import load_project
from configs.monitoring import QualitySlices
from configs.products import ModelProduct
from mlway_assets.compute.slice_quality import SliceQuality, slice_expectation, suspects

FIRST, CARRIERS = date(2013, 10, 1), ["AA", "B6", "DL", "EV", "UA", "WN"]


def product(**slices: object) -> ModelProduct:
    declared = load_project().products["flight_delay"]
    limits = QualitySlices.model_validate({"by": ("carrier", "origin"), **slices})
    quality = declared.monitoring.quality.model_copy(update={"slices": limits})
    return declared.model_copy(update={"monitoring": declared.monitoring.model_copy(update={"quality": quality})})


def days_of(days: int, seed: int, bad: pl.Expr | None = None) -> pl.DataFrame:
    """Days of a thousand rows with probabilities that are right, but where `bad` holds."""
    dice, count = np.random.default_rng(seed), days * 1_000
    weather = np.repeat(dice.normal(0, 0.3, days), 1_000)
    chance = 1 / (1 + np.exp(1.2 - dice.normal(0, 1, count) - weather))
    rows = pl.DataFrame(
        {
            "event_day": pl.Series([FIRST + timedelta(days=row // 1_000) for row in range(count)], dtype=pl.Date),
            "carrier": dice.choice(CARRIERS, count),
            "origin": dice.choice(["EWR", "JFK", "LGA"], count),
            "label": dice.random(count) < chance,
            "score": chance,
        }
    )
    return rows if bad is None else rows.with_columns(score=pl.when(bad).then(1 - pl.col("score")).otherwise("score"))


def held(bad: pl.Expr | None = None, **slices: object) -> list[SliceQuality]:
    return slice_expectation(product(**slices), days_of(28, seed=1)).held_against(days_of(14, seed=2, bad=bad))


def test_the_slice_that_has_become_worse_is_past_its_limit_and_the_only_suspect() -> None:
    found = held(pl.col("carrier") == "DL")
    assert [each.name for each in suspects(found)] == ["carrier = DL"]
    assert found[0].is_past
    assert found[0].worsening > 0.5
    assert not any(each.is_past for each in found[1:])


def test_slices_like_they_were_are_nobodys_fault() -> None:
    found = held()
    assert len(found) == len(CARRIERS) + 3
    assert suspects(found) == []


def test_where_all_rows_are_worse_alike_no_slice_stands_out() -> None:
    found = held(pl.lit(value=True))
    assert all(each.is_past for each in found)
    assert not any(each.stands_out for each in found)


def test_slices_with_few_rows_say_nothing() -> None:
    assert {each.column for each in held(minimum_rows=3_500)} == {"origin"}


@pytest.mark.parametrize("label", [None, True])
def test_without_labels_or_with_labels_of_one_class_no_slice_is_past(label: bool | None) -> None:
    rows = days_of(14, seed=2).with_columns(label=pl.lit(label, pl.Boolean))
    watched = product()
    by_area = watched.monitoring.quality.model_copy(update={"metric": "roc_auc"})
    watched = watched.model_copy(update={"monitoring": watched.monitoring.model_copy(update={"quality": by_area})})
    assert slice_expectation(watched, days_of(28, seed=1)).held_against(rows) == []
