"""Training-serving skew from logged decisions: none where all is well, found and named where it was put in."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from answering_support import TODAY, answer, at, upcoming

from configs.load import Project, load_project
from configs.monitoring import ServingSkew
from configs.products import ModelProduct
from mlway_assets.checks import SERVING_SKEW
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.resources import Platform
from mlway_assets.serving_checks import serving_skew_check
from mlway_assets.serving_skew import serving_skew_table, watch_serving_skew
from serving.decision_log import Decision

PRODUCT, ROWS = "flight_delay", 60


def declared(platform: Platform, name: str = PRODUCT, **limits: float) -> ModelProduct:
    product = platform.project.products[name]
    monitoring = product.monitoring.model_copy(update={"serving_skew": ServingSkew(**limits)})
    return product.model_copy(update={"monitoring": monitoring})


def altered(feature: str, by: float) -> Callable[[Decision], Decision]:
    """Every tenth decision has another number than its model saw."""
    seen = iter(range(10**6))

    def alter(decision: Decision) -> Decision:
        vectors = np.array(decision.vectors)
        if next(seen) % 10 == 3:
            vectors[:, decision.features.index(feature)] += by
        return replace(decision, vectors=vectors)

    return alter


@pytest.mark.parametrize("name", load_project().products)
def test_answers_were_made_from_what_the_lake_knew(name: str, platform: Platform) -> None:
    answer(platform, name, upcoming(platform, ROWS, name))
    [found] = watch_serving_skew(declared(platform, name), platform, [TODAY])
    assert (found.rows, found.is_told, found.is_within_limits) == (ROWS, True, True)
    assert [each.feature for each in found.features if each.differing] == []
    assert len(found.features) == len(platform.project.model_features(platform.project.products[name]))
    told = serving_skew_check(SERVING_SKEW, found)
    assert told.passed
    assert f"over {ROWS} logged rows of {TODAY}" in str(told.description)


def test_a_feature_that_was_another_at_the_endpoint_fails_the_check_and_is_named(platform: Platform) -> None:
    answer(platform, PRODUCT, upcoming(platform, ROWS), alter=altered("route_distance_miles", 500))
    [found] = watch_serving_skew(declared(platform), platform, [TODAY])
    assert [(each.feature, each.differing, each.behind) for each in found.past] == [("route_distance_miles", 6, 0)]
    told = serving_skew_check(SERVING_SKEW, found)
    assert not told.passed
    assert "route_distance_miles: 10.0% differ, such as " in str(told.description)
    assert "picture" in told.metadata
    kept = platform.lake.scan(LAYER, serving_skew_table(PRODUCT)).filter("is_past").collect()
    assert kept["feature"].to_list() == ["route_distance_miles"]
    assert kept["example"][0] in str(told.description)


def test_what_a_number_may_be_off_is_declared(platform: Platform) -> None:
    answer(platform, PRODUCT, upcoming(platform, ROWS), alter=altered("route_distance_miles", 0.001))
    for tolerance, expected in ((0.0, ["route_distance_miles"]), (0.01, [])):
        [found] = watch_serving_skew(declared(platform, tolerance=tolerance), platform, [TODAY])
        assert [each.feature for each in found.past] == expected


def test_values_of_a_store_that_was_not_filled_in_time_are_told_as_behind(platform: Platform) -> None:
    evening = at(platform, datetime(2013, 2, 9, 23, tzinfo=UTC))
    answer(evening, PRODUCT, upcoming(platform, ROWS))
    [found] = watch_serving_skew(declared(platform), evening, [TODAY])
    told = serving_skew_check(SERVING_SKEW, found)
    assert not told.passed
    assert "are behind, for the online store had not been given what was known of " in str(told.description)
    assert all(each.differing_share == 0 for each in found.features)
    assert {view for each in found.past for view in each.views} >= {"origin_departures", "carrier_departures"}
    [allowed] = watch_serving_skew(declared(platform, maximum_behind_share=1), evening, [TODAY])
    assert serving_skew_check(SERVING_SKEW, allowed).passed


def test_answers_of_the_baseline_and_without_the_store_are_not_of_the_lake(platform: Platform) -> None:
    rows = upcoming(platform, ROWS)
    answer(platform, PRODUCT, rows, is_baseline=True, replica="r1")
    answer(platform, PRODUCT, rows, alter=lambda made: replace(made, degraded=["sqlite"]), replica="r2")
    [found] = watch_serving_skew(declared(platform), platform, [TODAY])
    assert (found.rows, found.is_within_limits) == (0, True)


def test_where_the_log_hides_what_was_asked_about_the_lake_cannot_be_asked(platform: Platform) -> None:
    aircraft = platform.project.features["aircraft"].model_copy(update={"tags": ("pii",)})
    features = {**platform.project.features, "aircraft": aircraft}
    hiding = Platform(Project(platform.project.sources, features, platform.project.products), platform.environment)
    hiding.__dict__["registry"] = platform.registry
    answer(hiding, PRODUCT, upcoming(platform, ROWS))
    [found] = watch_serving_skew(declared(hiding), hiding, [TODAY])
    assert (found.rows, found.hidden) == (0, ROWS)
    assert f"The log hides what {ROWS} were about" in str(serving_skew_check(SERVING_SKEW, found).description)


def test_a_day_without_decisions_is_no_error_and_says_so(built_platform: Platform, platform: Platform) -> None:
    kept = built_platform.lake.scan(LAYER, serving_skew_table(PRODUCT)).collect()
    assert kept.is_empty()
    answer(platform, PRODUCT, upcoming(platform, 3))
    for day, rows in ((date(2013, 2, 1), 0), (TODAY, 3)):
        [found] = watch_serving_skew(declared(platform), platform, [day])
        told = serving_skew_check(SERVING_SKEW, found)
        assert told.passed
        assert f"{rows} rows of models on {day} are too few" in str(told.description)


def test_a_large_day_is_looked_at_by_a_sample_that_is_always_the_same(platform: Platform) -> None:
    answer(platform, PRODUCT, upcoming(platform, ROWS), alter=altered("route_distance_miles", 500))
    product = declared(platform, sample_rows=25)
    first, second = (watch_serving_skew(product, platform, [TODAY])[0] for _ in range(2))
    assert first.rows == 25
    assert first == second


def test_days_are_watched_together_as_alone(platform: Platform) -> None:
    answer(platform, PRODUCT, upcoming(platform, ROWS), alter=altered("route_distance_miles", 500))
    days = [date(2013, 2, 8), TODAY]
    together = watch_serving_skew(declared(platform), platform, days)
    assert [each.rows for each in together] == [0, ROWS]
    table = platform.lake.scan(LAYER, serving_skew_table(PRODUCT)).collect()
    assert table.filter(pl.col("event_day") == TODAY).height == len(together[1].features)
