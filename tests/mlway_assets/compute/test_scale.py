"""A unit that has changed shows in the size of a whole day's values, a storm does not."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from mlway_assets.compute.scale import DAYS_BEFORE, changed_scales, days_before

DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(40)]


def minutes(rows: int = 200, days: list[date] = DAYS) -> pl.DataFrame:
    """Delays of about 20 minutes to either side of nothing, with some that lack and some at zero."""
    rng = np.random.default_rng(1)
    parts = [
        pl.DataFrame(
            {
                "event_day": [day] * rows,
                "delay": rng.normal(0, 30, rows),
                "name": ["a"] * rows,
                "month": [day.month] * rows,
            }
        )
        for day in days
    ]
    number = pl.int_range(pl.len())
    lacking = pl.when(number % 7 == 0).then(None).when(number % 11 == 0).then(0.0).otherwise("delay")
    return pl.concat(parts).with_columns(lacking.alias("delay"))


def multiplied(rows: pl.DataFrame, day: date, by: float) -> pl.DataFrame:
    return rows.with_columns(pl.when(event_day=day).then(pl.col("delay") * by).otherwise("delay").alias("delay"))


@pytest.mark.parametrize("by", [60, 1 / 60])
def test_the_day_and_the_column_are_named_with_what_was_usual(by: float) -> None:
    [found] = changed_scales(multiplied(minutes(), DAYS[35], by), DAYS, 8)
    assert (found.day, found.column) == (DAYS[35], "delay")
    assert found.least < 20 < found.greatest * 1.5
    assert found.median == pytest.approx(20 * by, rel=0.3)
    assert f"delay of {DAYS[35]}: half of the values are beyond" in str(found)


def test_a_day_that_is_a_few_times_worse_passes() -> None:
    assert changed_scales(multiplied(minutes(), DAYS[35], 5), DAYS, 8) == []


def test_the_first_days_and_days_with_few_values_pass_and_only_days_asked_for_are_told() -> None:
    assert changed_scales(multiplied(minutes(), DAYS[10], 60), DAYS[:14], 8) == []
    assert changed_scales(multiplied(minutes(rows=20), DAYS[35], 60), DAYS, 8) == []
    assert changed_scales(multiplied(minutes(), DAYS[35], 60), DAYS[:35], 8) == []


def test_a_part_of_the_date_is_no_measure() -> None:
    days = [date(2023, 12, 1) + timedelta(days=number) for number in range(40)]
    assert changed_scales(minutes(days=days), days, 8) == []


def test_days_are_held_against_the_four_weeks_before_them() -> None:
    assert (len(days_before(DAYS[35])), min(days_before(DAYS[35])), max(days_before(DAYS[35]))) == (
        DAYS_BEFORE,
        DAYS[7],
        DAYS[34],
    )
