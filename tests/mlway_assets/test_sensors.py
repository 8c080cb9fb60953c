"""Sensors on the small platform: what is new, and what has been seen."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from mlway_assets.asset_keys import raw_key
from mlway_assets.definitions import build_definitions
from mlway_assets.local.instance import open_instance
from mlway_assets.local.paths import local_paths
from mlway_assets.resources import Platform

SENSOR = "new_airports_supplement"


@pytest.fixture
def instance(built_platform: Platform) -> Iterator[dg.DagsterInstance]:
    opened = open_instance(local_paths(built_platform.environment))
    yield opened
    opened.dispose()


def tick(platform: Platform, instance: dg.DagsterInstance, cursor: str | None) -> Any:
    definitions = build_definitions(platform)
    # A context that is not closed leaves its instance behind for whatever is defined afterwards.
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, repository_def=definitions.get_repository_def(), sensor_name=SENSOR
    ) as context:
        return definitions.resolve_sensor_def(SENSOR).evaluate_tick(context)


def test_what_was_ingested_is_not_news(built_platform: Platform, instance: dg.DagsterInstance) -> None:
    result = tick(built_platform, instance, None)
    assert result.run_requests == []
    assert result.cursor


def test_a_changed_file_asks_for_one_run_over_every_day(built_platform: Platform, instance: dg.DagsterInstance) -> None:
    result = tick(built_platform, instance, '{"airports_supplement.csv": "1 2013-01-01T00:00:00+00:00"}')
    assert [request.tags["dagster/asset_partition_range_start"] for request in result.run_requests] == ["2013-01-01"]
    again = tick(built_platform, instance, result.cursor)
    assert again.run_requests == []


def test_a_source_never_ingested_is_news(built_platform: Platform) -> None:
    with dg.instance_for_test() as empty:
        assert empty.get_latest_materialization_event(raw_key("airports_supplement")) is None
        assert len(tick(built_platform, empty, None).run_requests) == 1
