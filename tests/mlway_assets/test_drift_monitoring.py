"""Drift of a built platform's newest days: within limits, past them, and told."""

from collections.abc import Iterator
from datetime import date

import polars as pl
import pytest
from tests_support import copy_of_state

from configs.monitoring import Drift, InputDrift, Monitoring
from configs.products import ModelProduct
from mlway_assets.batch_scoring import score_days
from mlway_assets.checks import INPUT_DRIFT, PREDICTION_DRIFT, drift_check
from mlway_assets.drift_monitoring import LAYER, watch_inputs, watch_predictions
from mlway_assets.resources import Platform

PRODUCT, DAY = "flight_delay", date(2013, 2, 8)


def with_limits(platform: Platform, inputs: InputDrift, predictions: Drift | None = None) -> ModelProduct:
    monitoring = Monitoring(input_drift=inputs, prediction_drift=predictions or Drift())
    return platform.project.products[PRODUCT].model_copy(update={"monitoring": monitoring})


@pytest.fixture(scope="module")
def copied(built_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """What belongs to the lake is a copy, which these tests write; models are those that were built."""
    copied = copy_of_state(built_platform, tmp_path_factory.mktemp("drift"))
    copied.__dict__["registry"] = built_platform.registry
    return copied


@pytest.mark.parametrize(
    "table",
    [
        f"{name}_{kind}_drift"
        for name in (PRODUCT, "arrival_delay", "flight_ranking")
        for kind in ("input", "prediction")
    ],
)
def test_the_graph_keeps_a_row_for_each_column_of_its_newest_day(built_platform: Platform, table: str) -> None:
    frame = built_platform.lake.scan(LAYER, table).collect()
    assert frame["event_day"].unique().to_list() == [DAY]
    assert frame["column"].is_unique().all()
    assert len(frame) == 1 if table.endswith("prediction_drift") else len(frame) > 30
    assert frame["model_version"].unique().to_list() == [1]


def test_days_watched_together_are_found_as_each_alone(copied: Platform) -> None:
    product, days = copied.project.products[PRODUCT], [date(2013, 2, 7), date(2013, 2, 8)]
    together = watch_inputs(product, copied, days)
    assert [watch_inputs(product, copied, [day])[0] for day in days] == together
    assert [each.rows for each in together] == [
        copied.lake.scan("curated", "fact_flights")
        .filter(pl.col("event_day").is_between(date(2013, 2, day.day - 6), day))
        .collect()
        .height
        for day in days
    ]


def test_too_many_drifted_features_fail_the_check_which_names_the_furthest(copied: Platform) -> None:
    product = with_limits(copied, InputDrift(window_days=1, minimum_psi=1e-6, maximum_drifted_share=0))
    [found] = watch_inputs(product, copied, [DAY])
    assert found.drifted
    assert not found.is_within_limits
    told = drift_check(INPUT_DRIFT, found)
    assert not told.passed
    assert told.description is not None
    assert f"Of {len(found.findings)} columns {len(found.drifted)} have drifted" in told.description
    assert found.findings[0].drift.name in told.description


def test_of_a_window_with_few_rows_nothing_is_said(copied: Platform) -> None:
    product = with_limits(copied, InputDrift(minimum_psi=1e-6, maximum_drifted_share=0, minimum_rows=100_000))
    [found] = watch_inputs(product, copied, [DAY])
    assert found.is_within_limits
    assert "are too few" in str(drift_check(INPUT_DRIFT, found).description)


@pytest.fixture
def scored(copied: Platform) -> Iterator[pl.DataFrame]:
    """The champion's predictions of the day, which are put back."""
    frame = score_days(copied.project.products[PRODUCT], copied, [DAY]).frame
    yield frame
    copied.lake.replace_days("predictions", PRODUCT, frame, [DAY])


def test_scores_that_have_moved_are_past_their_limit_and_it_is_told_where_they_are(
    copied: Platform, scored: pl.DataFrame
) -> None:
    product = with_limits(copied, InputDrift(), Drift(window_days=1))
    copied.lake.replace_days("predictions", PRODUCT, scored.with_columns(score=pl.lit(1e-6)), [DAY])
    [found] = watch_predictions(product, copied, [DAY])
    assert [each.past for each in found.drifted] == [("psi",)]
    assert "score: 100% are below" in str(drift_check(PREDICTION_DRIFT, found).description)


def test_scores_of_another_version_are_not_the_champions(copied: Platform, scored: pl.DataFrame) -> None:
    copied.lake.replace_days("predictions", PRODUCT, scored.with_columns(model_digest=pl.lit("former")), [DAY])
    [found] = watch_predictions(with_limits(copied, InputDrift(), Drift(window_days=1)), copied, [DAY])
    assert found.rows == 0
    assert found.is_within_limits


def test_a_window_that_lacks_days_says_nothing(copied: Platform, scored: pl.DataFrame) -> None:
    product = with_limits(copied, InputDrift(), Drift(minimum_rows=1))
    copied.lake.replace_days("predictions", PRODUCT, scored.with_columns(score=pl.lit(1e-6)), [DAY])
    [found] = watch_predictions(product, copied, [DAY])
    assert (found.days, found.least_days) == (1, 7)
    assert found.is_within_limits
    assert "of 7 days must be there" in str(drift_check(PREDICTION_DRIFT, found).description)


@pytest.fixture
def flights(copied: Platform) -> Iterator[pl.DataFrame]:
    """The day's flights, which are put back."""
    frame = copied.lake.scan_days("curated", "fact_flights", [DAY]).collect()
    yield frame
    copied.lake.replace_days("curated", "fact_flights", frame, [DAY])


def test_a_value_that_training_never_saw_is_named(copied: Platform, flights: pl.DataFrame) -> None:
    product = with_limits(copied, InputDrift(window_days=1, maximum_drifted_share=0))
    copied.lake.replace_days("curated", "fact_flights", flights.with_columns(carrier=pl.lit("??")), [DAY])
    [found] = watch_inputs(product, copied, [DAY])
    past = {each.drift.name: each.past for each in found.findings}
    assert "unseen" in past["carrier_code"]
    assert any("missing" in limits for name, limits in past.items() if name.startswith("carrier_departure"))
    told = drift_check(INPUT_DRIFT, found)
    assert not told.passed
    assert "are missing" in str(told.description) or "were never seen" in str(told.description)
