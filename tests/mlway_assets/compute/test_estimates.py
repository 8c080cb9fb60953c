"""What rows add to a metric: its value, and how sure it is."""

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from configs.load import load_project
from mlway_assets.compute.estimates import estimates_by_day, estimates_by_value
from mlway_assets.compute.measurement import scored_rows, told_metrics

PRODUCTS = load_project().products
FIRST = date(2013, 10, 1)


def rows_of(task: str, days: int = 5, rows: int = 300, seed: int = 3) -> pl.DataFrame:
    """Days of rows with labels and scores that know something of them, with ties."""
    dice, count = np.random.default_rng(seed), days * rows
    usual = dice.normal(size=count)
    seen = np.round(usual + dice.normal(size=count), 1)
    frame = pl.DataFrame(
        {
            "event_day": pl.Series([FIRST + timedelta(days=row // rows) for row in range(count)], dtype=pl.Date),
            "carrier": dice.choice(["AA", "B6", "UA"], count),
            "query_key": [f"{row // 6}" for row in range(count)],
        }
    )
    if task == "binary":
        return frame.with_columns(label=pl.Series(usual > 0.8), score=pl.Series(1 / (1 + np.exp(1 - seen))))
    label, score = pl.Series(20 * usual), pl.Series(20 * seen)
    return frame.with_columns(label=label, score=score, lower=score - 25, upper=score + 30)


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("flight_delay", {"roc_auc", "log_loss", "brier"}),
        ("arrival_delay", {"mae", "rmse", "bias", "coverage"}),
        ("flight_ranking", {"ndcg_at_5"}),
    ],
)
def test_the_mean_of_what_rows_add_is_the_metric_of_each_day_and_of_each_value(name: str, metrics: set[str]) -> None:
    product = PRODUCTS[name]
    rows = rows_of(product.task)
    found = estimates_by_day(product, rows)
    assert set(found) == set(rows["event_day"])
    values = estimates_by_value(product, rows, "carrier")
    for part, estimates in [
        *((rows.filter(pl.col("event_day") == day), found[day]) for day in found),
        *((rows.filter(pl.col("carrier") == value), values[value]) for value in values),
        (rows, estimates_by_value(product, rows)[""]),
    ]:
        told = told_metrics(product, scored_rows(product, part))
        assert metrics <= estimates.keys()
        for metric in metrics:
            assert estimates[metric].value == pytest.approx(told[metric], abs=1e-12), metric
            interval = estimates[metric].interval
            assert interval is not None
            assert interval[0] < told[metric] < interval[1]


@pytest.mark.parametrize(("name", "metric"), [("flight_delay", "roc_auc"), ("arrival_delay", "rmse")])
def test_an_error_is_the_spread_of_the_metric_over_samples(name: str, metric: str) -> None:
    product = PRODUCTS[name]
    days = estimates_by_day(product, rows_of(product.task, days=400))
    values = np.array([found[metric].value for found in days.values()])
    errors = np.array([found[metric].error for found in days.values()])
    assert np.mean(errors) == pytest.approx(values.std(ddof=1), rel=0.1)
    truth = values.mean()
    inside = [low < truth < high for low, high in (found[metric].interval or (0, 0) for found in days.values())]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def test_rows_of_one_day_that_share_their_weather_make_slices_less_sure() -> None:
    product = PRODUCTS["arrival_delay"]
    rows = rows_of(product.task, days=20)
    weather = pl.Series(np.repeat(np.random.default_rng(5).normal(0, 15, 20), 300))
    calm, stormy = (
        estimates_by_value(product, rows.with_columns(score=pl.col("score") + shift), "carrier")["AA"]["bias"]
        for shift in (pl.lit(0.0), weather)
    )
    assert calm.error is not None
    assert stormy.error is not None
    assert stormy.error > 3 * calm.error
    assert stormy.error == pytest.approx(15 / 20**0.5, rel=0.35)


def test_of_a_day_with_labels_of_one_class_there_is_no_area() -> None:
    rows = rows_of("binary", days=1).filter("label")
    [found] = estimates_by_day(PRODUCTS["flight_delay"], rows).values()
    assert "roc_auc" not in found
    assert found["log_loss"].units == len(rows)


@pytest.mark.parametrize("estimates", [estimates_by_day, estimates_by_value])
def test_without_rows_there_is_nothing(estimates: Callable[..., object]) -> None:
    assert estimates(PRODUCTS["flight_delay"], rows_of("binary").head(0)) == {}


def test_the_slope_of_calibration_is_that_of_least_squares_and_tells_scores_that_are_too_extreme() -> None:
    dice, count = np.random.default_rng(5), 4_000
    rate = dice.uniform(0.1, 0.9, count)
    label = dice.random(count) < rate
    days = pl.Series([FIRST + timedelta(days=row % 8) for row in range(count)], dtype=pl.Date)
    found = {}
    for name, score in {"rates": rate, "extreme": np.clip(2 * rate - 0.5, 0.01, 0.99)}.items():
        rows = pl.DataFrame({"event_day": days, "label": label, "score": score})
        slope, _ = np.polyfit(score, label.astype(float), 1)
        for value, estimate in (
            (slope, estimates_by_value(PRODUCTS["flight_delay"], rows)[""]["calibration_slope"]),
            (
                np.polyfit(score[::8], label[::8].astype(float), 1)[0],
                estimates_by_day(PRODUCTS["flight_delay"], rows)[FIRST]["calibration_slope"],
            ),
        ):
            assert estimate.value == pytest.approx(value, abs=1e-12)
        # White's estimator of the slope's variance, by its formula.
        apart = score[::8] - score[::8].mean()
        left = label[::8] - np.polyval(np.polyfit(score[::8], label[::8].astype(float), 1), score[::8])
        error = np.sqrt(np.sum(apart**2 * left**2)) / np.sum(apart**2)
        assert estimate.error == pytest.approx(error, rel=2e-3)
        found[name] = estimates_by_value(PRODUCTS["flight_delay"], rows)[""]["calibration_slope"].interval
    assert found["rates"] is not None
    assert found["rates"][0] < 1 < found["rates"][1]
    assert found["extreme"] is not None
    assert found["extreme"][1] < 1


def test_scores_that_are_all_the_same_have_no_slope() -> None:
    rows = rows_of("binary", rows=333).with_columns(score=pl.lit(0.21))  # whose mean is not 0.21
    assert "calibration_slope" not in estimates_by_value(PRODUCTS["flight_delay"], rows)[""]
