"""The declared graph: complete, described, and what a snapshot says it is."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from mlway_assets.definitions import build_definitions
from mlway_assets.resources import open_platform

SNAPSHOT = Path(__file__).parent / "graph_keys.txt"


@pytest.fixture(scope="module")
def graph() -> AssetGraph:
    return build_definitions(open_platform()).resolve_asset_graph()


def test_every_dependency_is_produced_by_an_asset(graph: AssetGraph) -> None:
    dangling = [key.to_user_string() for key in graph.get_all_asset_keys() if not graph.get(key).is_materializable]
    assert dangling == []


def test_every_asset_has_an_owner_a_description_a_group_and_kinds(graph: AssetGraph) -> None:
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners, key
        assert node.description, key
        assert node.group_name in {"raw", "curated", "features", "models", "predictions"}, key
        assert node.kinds, key


def test_the_graph_has_the_keys_of_its_snapshot(graph: AssetGraph) -> None:
    keys = "".join(sorted(f"{key.to_user_string()}\n" for key in graph.get_all_asset_keys()))
    assert keys == SNAPSHOT.read_text(encoding="utf-8"), "the graph changed: bring tests/graph_keys.txt up to date"


def test_groups_flow_one_way(graph: AssetGraph) -> None:
    order = ["raw", "curated", "features", "models", "predictions"]
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        for parent in node.parent_keys:
            assert order.index(graph.get(parent).group_name) <= order.index(node.group_name), (parent, key)


def test_every_column_of_a_feature_group_has_a_lineage(graph: AssetGraph) -> None:
    metadata = graph.get(dg.AssetKey(["features", "aircraft_legs"])).metadata
    lineage = metadata["dagster/column_lineage"].value.deps_by_column
    assert {dep.column_name for dep in lineage["aircraft_arrival_delay_mean_1d"]} == {
        "arrival_delay_minutes",
        "arrival_known_at",
    }


def test_curated_and_candidate_checks_block(graph: AssetGraph) -> None:
    checks = {(key.asset_key.path[-1], key.name): graph.get(key).blocking for key in graph.asset_check_keys}
    assert checks[("fact_flights", "contract")]
    assert checks[("fact_flights", "quarantined_share")]
    assert checks[("candidate", "gate")]
    assert all(checks.values())
