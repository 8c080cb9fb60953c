"""The quality of a built platform's predictions, once labels are known."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from tests_support import copy_of_state

from configs.clock import build_clock
from configs.environments import ReplayClock
from configs.monitoring import QualitySlices
from mlway_assets.batch_scoring import score_days
from mlway_assets.checks import QUALITY
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.quality_checks import quality_check
from mlway_assets.quality_monitoring import quality_table, slices_table, watch_quality
from mlway_assets.quality_reports import LABELLED_SHARE
from mlway_assets.resources import Platform

PRODUCTS = ("arrival_delay", "flight_delay", "flight_ranking")
LAST = date(2013, 2, 6)
DAYS = [LAST - timedelta(days=before) for before in reversed(range(3))]


@pytest.fixture(scope="module")
def scored(built_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A copy in which three days are scored, seen from two days later."""
    copied = copy_of_state(built_platform, tmp_path_factory.mktemp("quality"))
    copied.__dict__["registry"] = built_platform.registry
    for name in PRODUCTS:
        score_days(copied.project.products[name], copied, DAYS)
    return copied


def at(platform: Platform, moment: datetime) -> Platform:
    """The platform at another time."""
    seen = Platform(platform.project, platform.environment)
    seen.__dict__["registry"] = platform.registry
    seen.__dict__["clock"] = build_clock(ReplayClock(kind="replay", at=moment))
    return seen


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_task_is_measured_by_day_in_its_own_metrics(scored: Platform, name: str) -> None:
    product = scored.project.products[name]
    found = watch_quality(product, scored, DAYS)
    table = scored.lake.scan(LAYER, quality_table(name)).collect()
    assert set(table["event_day"]) == set(DAYS)
    assert product.gate.metric_name in set(table["metric"])
    assert found[-1].verdict.comparison is not None
    assert found[-1].verdict.comparison.days == len(DAYS)
    assert product.watched_metric in str(quality_check(QUALITY, found[-1]).description)


def test_a_label_counts_from_the_moment_at_which_it_is_known(scored: Platform) -> None:
    product = scored.project.products["flight_delay"]
    noon = datetime(2013, 2, 6, 17, tzinfo=UTC)
    labelled = {}
    for moment in (noon, noon + timedelta(days=5)):
        reports = watch_quality(product, at(scored, moment), DAYS)
        kept = scored.lake.scan(LAYER, quality_table(product.name)).filter(pl.col("event_day") == LAST).collect()
        labelled[moment] = kept["labelled"][0]
        # A day whose labels may still be coming is kept, and does not count.
        assert kept["is_settled"].unique().to_list() == [moment != noon]
        assert [day.day for day in reports[-1].days] == (DAYS if moment != noon else DAYS[:-2])
    flights = scored.lake.scan_days("curated", "fact_flights", [LAST])
    known = flights.filter(pl.col("arrival_known_at") <= noon).drop_nulls("arrival_delay_minutes").collect()
    assert labelled[noon] == len(known)
    assert 0 < labelled[noon] < labelled[noon + timedelta(days=5)]


def test_scores_that_mislead_fail_the_check_and_it_says_how_much_worse_they_are(scored: Platform) -> None:
    product = scored.project.products["flight_delay"]
    honest = scored.lake.scan("predictions", product.name).collect()
    upside_down = honest.with_columns(score=1 - pl.col("score"))
    days = honest["event_day"].unique().to_list()
    scored.lake.replace_days("predictions", product.name, upside_down, days)
    try:
        found = watch_quality(product, scored, DAYS)[-1]
    finally:
        scored.lake.replace_days("predictions", product.name, honest, days)
    told = quality_check(QUALITY, found)
    assert not told.passed
    assert "% worse" in str(told.description)
    assert quality_check(QUALITY, watch_quality(product, scored, DAYS)[-1]).passed


def test_metrics_of_a_day_have_intervals_and_the_share_of_labels_that_are_known(scored: Platform) -> None:
    product = scored.project.products["flight_delay"]
    watch_quality(product, scored, DAYS)
    table = scored.lake.scan(LAYER, quality_table(product.name)).filter(pl.col("event_day") == LAST).collect()
    by_metric = {row["metric"]: row for row in table.to_dicts()}
    for metric in ("roc_auc", "log_loss", "brier", "bias"):
        row = by_metric[metric]
        assert row["lower"] < row["value"] < row["upper"]
        assert row["upper"] - row["lower"] < 0.3
    labelled = by_metric[LABELLED_SHARE]
    assert labelled["value"] == labelled["labelled"] / labelled["rows"]


def test_a_metric_that_is_no_mean_over_rows_is_watched_without_intervals(scored: Platform) -> None:
    declared = scored.project.products["flight_delay"]
    quality = declared.monitoring.quality.model_copy(update={"metric": "average_precision"})
    product = declared.model_copy(update={"monitoring": declared.monitoring.model_copy(update={"quality": quality})})
    found = watch_quality(product, scored, DAYS)[-1]
    assert found.verdict.comparison is not None
    assert [each.estimates["average_precision"].interval for each in found.days] == [None] * len(DAYS)
    assert "average_precision over 3 days" in str(quality_check(QUALITY, found).description)


def test_the_slice_whose_scores_mislead_is_suspected(scored: Platform) -> None:
    declared = scored.project.products["flight_delay"]
    quality = declared.monitoring.quality.model_copy(update={"slices": QualitySlices(by=("origin",), minimum_rows=100)})
    product = declared.model_copy(update={"monitoring": declared.monitoring.model_copy(update={"quality": quality})})
    honest = scored.lake.scan("predictions", product.name).collect()
    days = honest["event_day"].unique().to_list()
    misled = pl.when(pl.col("origin") == "LGA").then(1 - pl.col("score")).otherwise("score")
    scored.lake.replace_days("predictions", product.name, honest.with_columns(score=misled), days)
    try:
        found = watch_quality(product, scored, DAYS)[-1]
    finally:
        scored.lake.replace_days("predictions", product.name, honest, days)
    told = quality_check(QUALITY, found)
    assert not told.passed
    assert "Suspected: origin = LGA" in str(told.description)
    kept = scored.lake.scan(LAYER, slices_table(product.name)).filter(pl.col("event_day") == LAST).collect()
    assert set(kept["slice"]) == {"EWR", "JFK", "LGA"}
    assert "log_loss" in set(kept["metric"])


def test_labels_that_have_stopped_are_not_the_newest_for_ever(scored: Platform) -> None:
    """Ten days later the same days are still in the window; weeks later nothing is said, though they are known."""
    product = scored.project.products["flight_delay"]
    for weeks, days in ((1, len(DAYS)), (5, 0)):
        day = LAST + timedelta(weeks=weeks)
        [found] = watch_quality(product, at(scored, datetime(day.year, day.month, day.day + 1, tzinfo=UTC)), [day])
        assert len(found.days) == days
        assert (found.verdict.comparison is None) == (not days)


def test_without_predictions_nothing_is_said(scored: Platform) -> None:
    product = scored.project.products["flight_delay"]
    [found] = watch_quality(product, scored, [date(2013, 1, 15)])
    assert found.is_within_limits
    assert "too few" in str(quality_check(QUALITY, found).description)
