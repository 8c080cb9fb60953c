"""Quality by day, and when it is worse than was promised."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from configs.load import load_project
from mlway_assets.compute.quality import compare_days, quality_by_day

PRODUCT = load_project().products["flight_delay"]


def test_days_are_measured_by_the_rows_whose_labels_are_known() -> None:
    rows = pl.DataFrame(
        {
            "event_day": [date(2013, 1, 2)] * 3 + [date(2013, 1, 1)] * 4,
            "label": [True, False, None, True, True, False, False],
            "score": [0.9, 0.1, 0.5, 0.2, 0.8, 0.3, 0.1],
        }
    )
    first, second = quality_by_day(PRODUCT, rows)
    assert (first.day, first.rows, first.labelled) == (date(2013, 1, 1), 4, 4)
    assert first.metrics["roc_auc"] == 0.75
    assert (second.rows, second.labelled, second.metrics["roc_auc"]) == (3, 2, 1.0)


@pytest.mark.parametrize("labels", [[True, True], [None, None]])
def test_a_day_that_cannot_tell_good_from_bad_has_no_metrics(labels: list[bool | None]) -> None:
    rows = pl.DataFrame(
        {"event_day": [date(2013, 1, 1)] * 2, "label": labels, "score": [0.1, 0.9]},
        schema_overrides={"label": pl.Boolean},
    )
    [found] = quality_by_day(PRODUCT, rows)
    assert found.metrics == {}


def test_worse_days_are_told_from_chance() -> None:
    dice = np.random.default_rng(3)
    promised = dice.normal(0.77, 0.02, 30).tolist()
    worse = compare_days(promised, dice.normal(0.70, 0.02, 14).tolist(), is_lower_better=False, allowed=0)
    same = compare_days(promised, dice.normal(0.77, 0.02, 14).tolist(), is_lower_better=False, allowed=0)
    assert worse is not None
    assert same is not None
    assert worse.worsening == pytest.approx(0.09, abs=0.02)
    assert worse.p_value < 1e-6
    assert worse.interval[0] < worse.mean < worse.interval[1] < 0.73
    assert same.p_value > 0.01


def test_by_chance_alone_one_comparison_in_a_hundred_is_below_one_percent() -> None:
    dice = np.random.default_rng(11)
    found = [
        compare_days(dice.normal(20, 3, 30).tolist(), dice.normal(20, 3, 14).tolist(), is_lower_better=True, allowed=0)
        for _ in range(2_000)
    ]
    assert 0.004 < np.mean([each.p_value < 0.01 for each in found if each is not None]) < 0.018


def test_more_is_worse_where_less_is_better() -> None:
    found = compare_days([18.0, 19.0, 20.0], [24.0, 25.0, 26.0], is_lower_better=True, allowed=0)
    assert found is not None
    assert found.worsening == pytest.approx(6 / 19)
    better = compare_days([18.0, 19.0, 20.0], [14.0, 15.0, 16.0], is_lower_better=True, allowed=0)
    assert better is not None
    assert better.worsening < 0
    assert better.p_value > 0.9


def test_days_without_any_spread_are_compared_by_what_they_are() -> None:
    same, worse = (compare_days([1.0, 1.0], [value] * 2, is_lower_better=False, allowed=0) for value in (1.0, 0.5))
    assert same is not None
    assert worse is not None
    assert (same.p_value, worse.p_value) == (1, 0)


def test_of_one_day_nothing_is_said() -> None:
    assert compare_days([0.7, 0.8], [0.1], is_lower_better=False, allowed=0) is None


def test_days_that_are_worse_by_no_more_than_may_be_are_not_unlikely() -> None:
    promised, seen = [18.0, 19.0, 20.0] * 5, [20.5, 21.5, 22.5] * 5
    strict, lenient = (compare_days(promised, seen, is_lower_better=True, allowed=allowed) for allowed in (0.05, 0.2))
    assert strict is not None
    assert lenient is not None
    assert strict.p_value < 0.001
    assert lenient.p_value > 0.9


def test_from_a_mean_of_nothing_any_step_is_without_measure() -> None:
    found = compare_days([0.0, 0.0], [5.0, 6.0], is_lower_better=True, allowed=0.05)
    assert found is not None
    assert found.worsening == np.inf
    assert found.p_value < 0.05
