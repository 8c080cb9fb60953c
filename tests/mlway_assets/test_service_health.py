"""How a day's requests were answered: what was degraded, by whom, how fast, and what failed."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import pytest
from answering_support import TODAY, answer, upcoming

from configs.monitoring import ServiceHealth
from configs.products import ModelProduct
from mlway_assets.checks import SERVICE_HEALTH
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.resources import Platform
from mlway_assets.service_health import health_table, watch_health
from mlway_assets.serving_checks import health_check
from serving.logs import build_request_log, request_log_file

PRODUCT, ROWS = "flight_delay", 30


@pytest.fixture(name="platform")
def _platform(platform: Platform) -> Iterator[Platform]:
    """What was failed is forgotten too."""
    yield platform
    request_log_file(platform.environment, PRODUCT).unlink(missing_ok=True)


def declared(platform: Platform, **limits: float) -> ModelProduct:
    product = platform.project.products[PRODUCT]
    monitoring = product.monitoring.model_copy(update={"service_health": ServiceHealth.model_validate(limits)})
    return product.model_copy(update={"monitoring": monitoring})


def test_a_day_of_answers_is_counted_by_hour_and_by_model(platform: Platform) -> None:
    answer(platform, PRODUCT, upcoming(platform, ROWS))
    [found] = watch_health(declared(platform, maximum_milliseconds=60_000), platform, [TODAY])
    told = health_check(SERVICE_HEALTH, found)
    assert told.passed
    assert f"{ROWS} requests were answered on {TODAY} (1: {ROWS}), half within " in str(told.description)
    [row] = platform.lake.scan(LAYER, health_table(PRODUCT)).collect().to_dicts()
    assert (row["event_day"], row["hour"], row["model"], row["requests"], row["rows"]) == (TODAY, 0, "1", ROWS, ROWS)
    assert 0 < row["median_milliseconds"] <= row["p99_milliseconds"]


def test_answers_without_a_part_of_the_platform_fail_the_check_which_names_it(platform: Platform) -> None:
    rows = upcoming(platform, ROWS)
    answer(platform, PRODUCT, rows.head(ROWS - 3))
    answer(platform, PRODUCT, rows.tail(3), alter=lambda made: replace(made, degraded=["redis"]), replica="r2")
    [found] = watch_health(declared(platform, maximum_milliseconds=60_000), platform, [TODAY])
    told = health_check(SERVICE_HEALTH, found)
    assert not told.passed
    assert found.past == ["degraded"]
    assert "10.0% lacked a part, 1.0% may, most of all redis." in str(told.description)
    assert "picture" in told.metadata


def test_answers_of_the_baseline_fail_the_check(platform: Platform) -> None:
    rows = upcoming(platform, ROWS)
    answer(platform, PRODUCT, rows.head(ROWS - 3))
    answer(platform, PRODUCT, rows.tail(3), is_baseline=True, replica="r2")
    [found] = watch_health(declared(platform, maximum_milliseconds=60_000), platform, [TODAY])
    assert found.models == {"1": ROWS - 3, "baseline": 3}
    assert "10.0% are the baseline's, 1.0% may." in str(health_check(SERVICE_HEALTH, found).description)


def test_slow_answers_fail_the_check(platform: Platform) -> None:
    answer(platform, PRODUCT, upcoming(platform, ROWS), alter=lambda made: replace(made, latency_microseconds=900_000))
    [found] = watch_health(declared(platform), platform, [TODAY])
    assert found.past == ["slow"]
    assert "1% took longer than 900 ms; 500 ms they may." in str(health_check(SERVICE_HEALTH, found).description)


def test_requests_that_the_endpoint_failed_are_found_in_its_request_log(platform: Platform) -> None:
    rows = upcoming(platform, ROWS)
    log = build_request_log(platform.environment, PRODUCT)
    answer(platform, PRODUCT, rows.head(ROWS // 2), replica="r1")
    for status in (503, 503, 422):
        log.request(status=status, seconds=0.1, caller="key-1", problem='The store is away: "status":503.')
    log.write()
    answer(platform, PRODUCT, rows.tail(ROWS // 2), replica="r2")
    [found] = watch_health(declared(platform, maximum_milliseconds=60_000), platform, [TODAY])
    told = health_check(SERVICE_HEALTH, found)
    assert found.past == ["failed"]
    assert sum(found.failed.values()) == 2
    [before] = watch_health(declared(platform), platform, [TODAY - timedelta(days=1)])
    assert not before.failed, "what failed belongs to the day of the platform's clock"
    assert "6.2% failed, 1.0% may, most of all 503: The store is away" in str(told.description)


def test_a_day_on_which_every_request_failed_is_not_a_quiet_one(platform: Platform) -> None:
    log = build_request_log(platform.environment, PRODUCT)
    log.request(status=503, seconds=1, caller=None, problem="No replica is there.")
    log.write()
    [found] = watch_health(declared(platform), platform, [TODAY])
    told = health_check(SERVICE_HEALTH, found)
    assert found.past == ["failed"]
    assert "100.0% failed" in str(told.description)


def test_who_is_always_asked_and_falls_silent_fails_the_check_if_that_is_declared(platform: Platform) -> None:
    for least, passes in ((0, True), (100, False)):
        [found] = watch_health(declared(platform, minimum_requests=least), platform, [date(2013, 2, 1)])
        told = health_check(SERVICE_HEALTH, found)
        assert told.passed == passes
        assert str(told.description).startswith("Nobody was answered on 2013-02-01.")
