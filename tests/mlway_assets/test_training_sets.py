"""Training sets: the same inputs give the same hash anywhere, and a former one can be built again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import yaml
from tests_support import copy_of_state, open_small_platform, write_small_configs
from typer.testing import CliRunner, Result

from configs.features import RequestFeatures
from feature_repo.store import register_features
from mlway_assets.cli import app
from mlway_assets.compute.frame_hash import frame_hash
from mlway_assets.compute.population import in_order
from mlway_assets.feature_tables import write_group
from mlway_assets.lake import MissingVersionError
from mlway_assets.resources import Platform
from mlway_assets.training_sets import (
    LAYER,
    TrainingSetError,
    build_training_set,
    newest_training_set,
    rebuild_training_set,
    training_set_versions,
    write_training_set,
)

PRODUCT = "flight_delay"
TABLES = ("fact_flights", "fact_weather", "dim_aircraft")
LAST = date(2013, 1, 9)


def materialize(platform: Platform) -> int:
    """Features, registry and training set from the curated tables; the training set's version."""
    for group in platform.project.features.values():
        if not isinstance(group, RequestFeatures):
            write_group(group, platform.lake, platform.clock.now())
    register_features(platform.environment, platform.project)
    product = platform.project.products[PRODUCT]
    return write_training_set(product, platform, build_training_set(product, platform))


@pytest.fixture(scope="module")
def place(built_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Platform]:
    """Makes a platform of its own in a folder: a few days of the small one's curated tables, written in its own way."""

    def make(name: str, parts: int) -> Platform:
        folder = tmp_path_factory.mktemp(name)
        platform = open_small_platform(write_small_configs(folder / "configs", folder / "state"))
        for table in TABLES:
            frame = built_platform.lake.scan("curated", table).collect()
            if "event_day" in frame.columns:
                frame = frame.filter(pl.col("event_day") <= LAST)
            for _ in range(parts):  # Other rows first, other chunks, another version number.
                frame = pl.concat([frame[len(frame) // 3 :], frame[: len(frame) // 3]], rechunk=False)
                platform.lake.replace("curated", table, frame)
        return platform

    return make


@pytest.fixture(scope="module")
def materialized(place: Callable[[str, int], Platform]) -> Platform:
    """Such a platform with version 0 of its training set. Tests read it; one that writes makes its own copy."""
    platform = place("here", 1)
    assert materialize(platform) == 0
    return platform


@pytest.fixture
def own(materialized: Platform, tmp_path: Path) -> Platform:
    """A copy of it, to write into."""
    return copy_of_state(materialized, tmp_path)


def test_the_same_inputs_give_the_same_hash_in_another_place(
    materialized: Platform, place: Callable[[str, int], Platform]
) -> None:
    platform = place("there", 2)
    materialize(platform)
    here, there = (newest_training_set(PRODUCT, found).record for found in (materialized, platform))
    assert (here.sha256, here.columns, here.rows) == (there.sha256, there.columns, there.rows)
    assert here.rows > 5_000
    assert here.inputs["curated/fact_flights"] != there.inputs["curated/fact_flights"]


def test_the_record_is_of_what_the_table_holds(built_platform: Platform) -> None:
    found = newest_training_set(PRODUCT, built_platform)
    product = built_platform.project.products[PRODUCT]
    frame = built_platform.lake.scan(LAYER, PRODUCT, found.version).collect()
    assert frame_hash(in_order(frame, product)).sha256 == found.record.sha256
    assert frame.equals(in_order(frame, product))
    groups = {group.name for group in built_platform.project.table_groups(product)}
    assert found.record.inputs.keys() == {"curated/fact_flights", *(f"features/{name}" for name in groups)}
    assert "departure_request:aircraft_age_years" in found.record.features


def test_a_query_that_reaches_over_days_is_refused_with_its_rows_days(built_platform: Platform) -> None:
    product = built_platform.project.products["flight_ranking"]
    assert product.ranking is not None
    ranking = product.ranking.model_copy(update={"groups": ("dest", "date_part('hour', scheduled_departure) // 6")})
    with pytest.raises(TrainingSetError, match=r"from 2013-01-01 to 2013-02-12: .*\n.*add `event_day`") as error:
        build_training_set(product.model_copy(update={"ranking": ranking}), built_platform)
    assert "flight_ranking" in str(error.value)


def test_the_run_in_mlflow_names_the_hash_of_its_training_set(built_platform: Platform) -> None:
    champion = built_platform.registry.require_champion(PRODUCT)
    tags = built_platform.registry.client.get_run(champion.run_id).data.tags
    found = newest_training_set(PRODUCT, built_platform)
    assert tags["mlway.training_set_sha256"] == found.record.sha256
    assert tags["mlway.training_set_version"] == str(found.version)


def test_a_former_version_is_built_again_after_data_and_declarations_have_moved_on(own: Platform) -> None:
    platform, first = own, 0
    flights = platform.lake.scan("curated", "fact_flights").collect()
    later = flights.with_columns(pl.col("departure_delay_minutes", "arrival_delay_minutes") + 1)
    platform.lake.replace("curated", "fact_flights", later)
    configs = platform.environment.state.parent / "configs"
    edit(configs / "features" / "departure_request.yaml", lambda group: group["features"].pop("aircraft_age_years"))
    edit(configs / "features" / "route_history.yaml", lambda group: group.update(windows=["3d"]))
    edit(configs / "products" / f"{PRODUCT}.yaml", lambda product: product["population"].update(horizon="1h"))
    moved = open_small_platform(configs)
    second = materialize(moved)
    hashes = {found.version: found.record.sha256 for found in training_set_versions(PRODUCT, moved)}
    assert hashes[first] != hashes[second]
    for version in (first, second):
        rebuilt = rebuild_training_set(PRODUCT, version, moved)
        assert (rebuilt.is_equal, rebuilt.different_columns, rebuilt.sha256) == (True, (), hashes[version])
    registered = build_training_set(moved.project.products[PRODUCT], moved)
    assert registered.record.sha256 == hashes[second], "rebuilding must leave the registered features as they are"
    stored = moved.lake.scan(LAYER, PRODUCT, first).collect()
    assert rebuild_training_set(PRODUCT, first, moved).frame.select(stored.columns).equals(stored)


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(yaml.safe_dump(content), encoding="utf-8")


def test_a_version_that_is_not_what_was_recorded_names_the_columns_that_differ(
    own: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, version = own, 0
    table = Path(platform.environment.lake.table_uri("features", "route"))
    file = next(table.glob("*.parquet"))
    tampered = pl.read_parquet(file).with_columns(pl.col("route_distance_miles") + 1)
    size = file.stat().st_size
    tampered.write_parquet(file, compression="snappy")
    log = table / "_delta_log" / f"{0:020}.json"
    log.write_text(log.read_text().replace(f'"size":{size}', f'"size":{file.stat().st_size}'))
    assert rebuild_training_set(PRODUCT, version, platform).different_columns == ("route_distance_miles",)
    run = mlway(platform, monkeypatch, "rebuild-training-set", PRODUCT, "--version", str(version))
    assert run.exit_code == 1
    assert "different in route_distance_miles" in run.stderr


def test_a_version_whose_inputs_are_gone_is_named(own: Platform) -> None:
    for file in Path(own.environment.lake.table_uri("features", "aircraft")).glob("*.parquet"):
        file.unlink()
    with pytest.raises(MissingVersionError, match="no version 0 of features/aircraft: its files were removed"):
        rebuild_training_set(PRODUCT, 0, own)
    with pytest.raises(TrainingSetError, match=r"no recorded training set of version 9\. Known: 0\."):
        rebuild_training_set(PRODUCT, 9, own)


def test_features_that_are_registered_otherwise_than_declared_are_refused(built_platform: Platform) -> None:
    group = built_platform.project.features["route_history"]
    wider = group.model_copy(update={"windows": (group.windows[0] * 2,)})
    project = type(built_platform.project)(
        built_platform.project.sources,
        {**built_platform.project.features, group.name: wider},
        built_platform.project.products,
    )
    with pytest.raises(TrainingSetError, match="holds other definitions of flight_delay's features"):
        build_training_set(project.products[PRODUCT], Platform(project, built_platform.environment))


def mlway(platform: Platform, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("MLWAY_CONFIGS", str(platform.environment.state.parent / "configs"))
    return CliRunner().invoke(app, list(arguments))


def test_the_command_lists_versions_and_builds_one_again(
    built_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = json.loads(mlway(built_platform, monkeypatch, "training-sets", PRODUCT, "--json").stdout)[PRODUCT]
    assert listed[0]["sha256"] == newest_training_set(PRODUCT, built_platform).record.sha256
    assert listed[0]["sha256"][:12] in mlway(built_platform, monkeypatch, "training-sets").stdout
    unknown = mlway(built_platform, monkeypatch, "training-sets", "nothing")
    assert unknown.exit_code == 1
    assert "No model product is called 'nothing'. Known: arrival_delay, flight_delay, flight_ranking" in unknown.stderr


def test_another_process_with_one_thread_builds_the_same_and_writes_it(
    built_platform: Platform, tmp_path: Path
) -> None:
    file = tmp_path / "again.parquet"
    configs = built_platform.environment.state.parent / "configs"
    command = ["rebuild-training-set", PRODUCT, "--version", "0", "--output", str(file)]
    done = subprocess.run(
        [str(Path(sys.executable).parent / "mlway"), *command],
        env=os.environ | {"MLWAY_CONFIGS": str(configs), "POLARS_MAX_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "bit for bit" in done.stdout
    assert frame_hash(pl.read_parquet(file)).sha256 == newest_training_set(PRODUCT, built_platform).record.sha256
