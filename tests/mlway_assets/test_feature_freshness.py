"""Ages of the values that answers were made from: what is too old is found, and its group named."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
from answering_support import TODAY, answer, at, upcoming

from configs.monitoring import FeatureFreshness
from configs.products import ModelProduct
from mlway_assets.checks import FEATURE_FRESHNESS
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.feature_freshness import freshness_table, watch_freshness
from mlway_assets.resources import Platform
from mlway_assets.serving_checks import freshness_check

PRODUCT, ROWS = "flight_delay", 40


def declared(platform: Platform, **limits: object) -> ModelProduct:
    product = platform.project.products[PRODUCT]
    monitoring = product.monitoring.model_copy(update={"feature_freshness": FeatureFreshness.model_validate(limits)})
    return product.model_copy(update={"monitoring": monitoring})


def test_values_of_a_store_that_is_filled_are_within_their_time_to_live(platform: Platform) -> None:
    answer(platform, PRODUCT, upcoming(platform, ROWS))
    [found] = watch_freshness(declared(platform), platform, [TODAY])
    assert freshness_check(FEATURE_FRESHNESS, found).passed
    groups = {each.group: each for each in found.groups}
    assert set(groups) == {group.name for group in platform.project.table_groups(declared(platform))}
    weather = groups["origin_weather"]
    assert weather.median_seconds is not None
    assert weather.p95_seconds is not None
    assert 0 <= weather.median_seconds <= weather.p95_seconds <= weather.time_to_live.total_seconds()
    assert groups["aircraft"].median_seconds is None


def test_a_value_that_was_never_known_has_not_expired(platform: Platform) -> None:
    rows = upcoming(platform, ROWS).with_columns(tailnum=pl.lit("N0"))
    answer(platform, PRODUCT, rows)
    [found] = watch_freshness(declared(platform), platform, [TODAY])
    legs = next(each for each in found.groups if each.group == "aircraft_legs")
    assert (legs.missing, legs.expired) == (ROWS, 0)


def test_a_store_that_is_filled_no_more_fails_the_check_which_names_the_groups(platform: Platform) -> None:
    later = at(platform, datetime(2013, 2, 11, 12, tzinfo=UTC))
    answer(later, PRODUCT, upcoming(platform, ROWS))
    day = date(2013, 2, 11)
    [found] = watch_freshness(declared(platform), later, [day])
    told = freshness_check(FEATURE_FRESHNESS, found)
    assert not told.passed
    assert {"origin_weather", "origin_departures"} <= {each.group for each in found.past}
    assert "origin_departures: 100% of the values are older than 1.0 d; 50% may be" in str(told.description)
    kept = platform.lake.scan(LAYER, freshness_table(PRODUCT)).filter(pl.col("event_day") == day).collect()
    assert kept.filter(pl.col("group") == "origin_weather")["past"].to_list() == ["expired"]
    assert kept.filter(pl.col("group") == "route")["past"].to_list() == [""]


def test_the_age_that_a_group_may_have_is_declared(platform: Platform) -> None:
    answer(platform, PRODUCT, upcoming(platform, ROWS))
    for allowed, passes in ((timedelta(seconds=1), False), (timedelta(days=28), True)):
        [found] = watch_freshness(declared(platform, maximum_ages={"route_history": allowed}), platform, [TODAY])
        told = freshness_check(FEATURE_FRESHNESS, found)
        assert told.passed == passes
        assert ("route_history: 95% of the values are younger than" in str(told.description)) != passes


def test_a_day_without_decisions_is_no_error_and_says_so(platform: Platform) -> None:
    [found] = watch_freshness(declared(platform), platform, [TODAY])
    told = freshness_check(FEATURE_FRESHNESS, found)
    assert told.passed
    assert f"0 rows of models on {TODAY} are too few" in str(told.description)
