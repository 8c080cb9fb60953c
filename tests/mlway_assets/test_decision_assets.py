"""The decision log in the graph: a raw table for each product, whose blocking check proves the chain."""

from pathlib import Path

import dagster as dg
import pytest
from decision_support import PRODUCT, flip_byte, log_environment, write_log

from configs.load import PROJECT_ROOT, load_project
from mlway_assets.assets.decisions import build_decisions
from mlway_assets.decision_table import table_columns
from mlway_assets.resources import Platform
from serving.decision_segments import list_segments


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(load_project(PROJECT_ROOT / "configs"), log_environment(tmp_path))


def materialize(platform: Platform) -> dg.ExecuteInProcessResult:
    assets = build_decisions(platform.project).assets or ()
    return dg.materialize(list(assets), resources={"platform": platform}, raise_on_error=False)


def test_without_decisions_the_asset_takes_no_time_and_writes_nothing(platform: Platform) -> None:
    done = materialize(platform)
    assert done.success
    assert not platform.lake.exists("raw", f"decisions_{PRODUCT}")
    (step,) = [event for event in done.all_events if event.is_step_success]
    assert step.step_success_data.duration_ms < 1000


def test_the_asset_says_how_many_decisions_it_took_in(platform: Platform) -> None:
    write_log(platform.environment.decisions_folder, 7)
    done = materialize(platform)
    assert done.success
    metadata = done.asset_materializations_for_node(f"raw__decisions_{PRODUCT}")[0].metadata
    assert (metadata["decisions"].value, metadata["dagster/row_count"].value) == (7, 7)
    assert done.get_asset_check_evaluations()[0].passed


def test_an_altered_record_fails_the_blocking_check_and_is_named(platform: Platform) -> None:
    write_log(platform.environment.decisions_folder, 7)
    altered = flip_byte(list_segments(platform.environment.decisions_folder, PRODUCT)[0].path, line=6)
    done = materialize(platform)
    check = done.get_asset_check_evaluations()[0]
    assert (check.passed, check.blocking) == (False, True)
    assert f"line 6 (decision {altered}): altered" in str(check.description)


def test_the_declared_columns_are_those_of_the_table(platform: Platform) -> None:
    write_log(platform.environment.decisions_folder, 1)
    assert materialize(platform).success
    (asset,) = [
        found for found in build_decisions(platform.project).assets or () if isinstance(found, dg.AssetsDefinition)
    ]
    schema = asset.metadata_by_key[asset.key]["dagster/column_schema"].value
    written = platform.lake.scan("raw", f"decisions_{PRODUCT}").collect_schema()
    declared = table_columns(platform.project, platform.project.products[PRODUCT])
    assert {column.name for column in schema.columns} == set(declared)
    assert {name: written[name] for name in declared} == declared
