"""The catalogue: declarations beside statistics, before and after anything was computed."""

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from tests_support import open_small_platform, write_small_configs
from typer.testing import CliRunner, Result

from mlway_assets.asset_keys import feature_registry_key, features_key
from mlway_assets.cli import app
from mlway_assets.feature_catalogue import UnknownFeatureError, build_catalogue
from mlway_assets.feature_tables import write_group
from mlway_assets.local.instance import open_instance
from mlway_assets.local.paths import local_paths
from mlway_assets.resources import Platform

UNUSED = "No product uses origin_weather:temperature."


@pytest.fixture
def empty(tmp_path: Path) -> Platform:
    return open_small_platform(write_small_configs(tmp_path / "configs", tmp_path / "state"))


def mlway(platform: Platform, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("MLWAY_CONFIGS", str(platform.environment.state.parent / "configs"))
    return CliRunner().invoke(app, list(arguments), terminal_width=200)


def test_every_declared_feature_is_in_it_before_anything_is_computed(empty: Platform) -> None:
    catalogue = build_catalogue(empty)
    declared = {(group.name, name) for group in empty.project.features.values() for name in group.types}
    assert {(group.name, name) for group in catalogue.groups.values() for name in group.features} == declared
    assert {group.freshness for group in catalogue.groups.values()} == {"never", "on request"}
    assert not empty.environment.state.exists()


def test_statistics_are_those_of_the_table_up_to_now(built_platform: Platform) -> None:
    group = build_catalogue(built_platform).groups["origin_departures"]
    now = built_platform.clock.now()
    known = built_platform.lake.scan("features", group.name).filter(pl.col("event_timestamp") <= now).collect()
    assert group.statistics is not None
    assert (group.statistics.rows, group.statistics.entities, group.statistics.as_of) == (len(known), 3, now)
    for name, feature in group.features.items():
        assert feature.statistics is not None
        assert feature.statistics.maximum == known[name].max(), name
        assert feature.statistics.null_share == pytest.approx(known[name].null_count() / len(known)), name
    assert group.inputs == {"curated/fact_flights": built_platform.lake.version("curated", "fact_flights")}
    assert group.values == f"features/origin_departures@{built_platform.lake.version('features', group.name)}"


def test_every_feature_has_statistics_once_everything_is_built(built_platform: Platform) -> None:
    for group in build_catalogue(built_platform).groups.values():
        for name, feature in group.features.items():
            assert feature.statistics is not None, name
            assert feature.statistics.null_share is not None, name


def test_freshness_is_the_age_of_the_newest_event_by_the_platforms_clock(built_platform: Platform) -> None:
    groups, now = build_catalogue(built_platform).groups, built_platform.clock.now()
    newest = (
        built_platform.lake.scan("curated", "fact_weather")
        .filter(pl.col("known_at") <= now)
        .select(pl.max("known_at"))
        .collect()
        .item()
    )
    assert groups["origin_weather"].age_seconds == (now - newest).total_seconds()
    assert groups["origin_weather"].freshness == "fresh"
    assert (groups["route"].freshness, groups["departure_request"].freshness) == ("always", "on request")


def test_a_feed_that_has_stopped_makes_its_features_stale_though_their_values_go_on_changing(
    built_platform: Platform, empty: Platform
) -> None:
    """Rows leave a window long after the last one came in: the newest value says nothing of the feed."""
    group, now = empty.project.features["origin_departures"], empty.clock.now()
    stopped = now - group.time_to_live - timedelta(minutes=1)
    flights = built_platform.lake.scan("curated", group.table).filter(pl.col(group.known_at) <= stopped).collect()
    empty.lake.replace("curated", group.table, flights)
    write_group(group, empty.lake, now)
    found = build_catalogue(empty).groups[group.name]
    assert found.statistics is not None
    assert found.statistics.newest_event == flights[group.known_at].max()
    assert found.freshness == "stale"
    values = empty.lake.scan("features", group.name).select(pl.max("event_timestamp")).collect().item()
    assert values > stopped


def test_a_feature_is_traced_to_raw_columns_and_to_the_request(built_platform: Platform) -> None:
    groups = build_catalogue(built_platform).groups
    age = groups["departure_request"].features["aircraft_age_years"]
    assert age.raw_columns == [
        ("raw", "planes", "year"),
        ("request", "departure_request", "scheduled_departure"),
    ]
    for group in groups.values():
        for name, feature in group.features.items():
            assert feature.raw_columns, name
            assert {layer for layer, _, _ in feature.raw_columns} <= {"raw", "request"}, name


def test_one_group_or_one_feature_can_be_asked_for(built_platform: Platform) -> None:
    catalogue = build_catalogue(built_platform)
    assert len(catalogue.only("route_history").groups["route_history"].features) == 2
    for name in ("temperature", "origin_weather:temperature"):
        found = catalogue.only(name)
        assert [*found.groups["origin_weather"].features] == ["temperature"]
        assert [warning.feature for warning in found.warnings] == ["temperature"]
    assert catalogue.only("route").warnings == []
    with pytest.raises(UnknownFeatureError, match=r"called 'route_histroy'\.\nHint: did you mean route_history"):
        catalogue.only("route_histroy")
    with pytest.raises(UnknownFeatureError, match=r"`mlway features` lists them"):
        catalogue.only("zzz")


def test_the_command_prints_a_table_for_each_group_and_warns_beside_it(
    built_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = mlway(built_platform, monkeypatch, "features")
    assert printed.exit_code == 0
    assert all(name in printed.stdout for group in built_platform.project.features.values() for name in group.types)
    assert UNUSED not in printed.stdout
    assert UNUSED in printed.stderr


def test_the_command_prints_the_whole_of_one_feature(built_platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = mlway(built_platform, monkeypatch, "features", "route_late_share_28d").stdout
    for text in ("rate(arrival_delay_minutes >= 15) over 28d", "raw/flights.arr_delay", "flight_delay (model)", "p95"):
        assert text in printed
    wrong = mlway(built_platform, monkeypatch, "features", "route_late_share")
    assert wrong.exit_code == 1
    assert "did you mean route_late_share_28d" in wrong.stderr


def test_marks_and_missing_owners_are_printed(empty: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    file = empty.environment.state.parent / "configs" / "features" / "aircraft.yaml"
    text = file.read_text(encoding="utf-8").replace("owner: team:flight-operations\n", "tags: [deprecated]\n")
    file.write_text(text.replace("expression: seats,", "expression: seats, tags: [pii],"), encoding="utf-8")
    printed = mlway(empty, monkeypatch, "features", "aircraft_seats")
    assert "owned by nobody" in printed.stdout
    assert "deprecated, pii" in printed.stdout
    assert "aircraft has no owner: add `owner` to its file." in printed.stderr
    assert (
        "aircraft:aircraft_seats is deprecated, and arrival_delay, flight_delay, flight_ranking use it."
        in printed.stderr
    )
    assert "aircraft_seats [deprecated] [pii]" in mlway(empty, monkeypatch, "features").stdout


def test_as_json_the_command_prints_one_object(empty: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(mlway(empty, monkeypatch, "features", "--json").stdout)
    assert [warning["kind"] for warning in found["warnings"]] == ["unused"]
    feature = found["groups"]["aircraft"]["features"]["aircraft_year_built"]
    assert feature["owner"] == "team:flight-operations"
    assert feature["products"] == dict.fromkeys(
        ("arrival_delay", "flight_delay", "flight_ranking"), "input of departure_request"
    )
    assert feature["statistics"] is None


def test_dagster_shows_statistics_and_warns_without_stopping(built_platform: Platform) -> None:
    import dagster as dg

    instance = open_instance(local_paths(built_platform.environment))
    key = dg.AssetCheckKey(feature_registry_key(), "catalogue")
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    evaluation = record.event.dagster_event.asset_check_evaluation_data
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert UNUSED in (evaluation.description or "")
    event = instance.get_latest_materialization_event(features_key("route_history"))
    assert event is not None
    table = event.asset_materialization.metadata["statistics"].value
    assert "| route_late_share_28d | " in table
    instance.dispose()
