"""The declared graph: complete, described, and what a snapshot says it is."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from configs.load import Project, load_project
from mlway_assets.asset_keys import MONITORED_KEYS
from mlway_assets.definitions import build_definitions
from mlway_assets.resources import Platform, open_platform

PROJECT = load_project()
GROUPS = ["raw", "curated", "features", "models", "predictions", "monitoring", "reports"]
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
        assert node.group_name in set(GROUPS), key
        assert node.kinds, key


def test_the_graph_has_the_keys_of_its_snapshot(graph: AssetGraph) -> None:
    keys = "".join(sorted(f"{key.to_user_string()}\n" for key in graph.get_all_asset_keys()))
    assert keys == SNAPSHOT.read_text(encoding="utf-8"), "the graph changed: bring tests/graph_keys.txt up to date"


def test_groups_flow_one_way(graph: AssetGraph) -> None:
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        for parent in node.parent_keys:
            assert GROUPS.index(graph.get(parent).group_name) <= GROUPS.index(node.group_name), (parent, key)


def deps_of(graph: AssetGraph, key: dg.AssetKey, column: str) -> set[tuple[dg.AssetKey, str]]:
    lineage = graph.get(key).metadata["dagster/column_lineage"].value.deps_by_column
    return {(dep.asset_key, dep.column_name) for dep in lineage.get(column, ())}


def leaves(graph: AssetGraph, key: dg.AssetKey, column: str) -> set[tuple[dg.AssetKey, str]]:
    """Where a column's lineage ends, having followed it through every asset."""
    deps = deps_of(graph, key, column)
    return {leaf for dep in deps for leaf in leaves(graph, *dep)} if deps else {(key, column)}


def columns(graph: AssetGraph, key: dg.AssetKey) -> dict[str, dg.TableColumn]:
    return {column.name: column for column in graph.get(key).metadata["dagster/column_schema"].value.columns}


def test_a_feature_comes_from_its_expression_its_condition_and_when_it_was_known(graph: AssetGraph) -> None:
    found = deps_of(graph, dg.AssetKey(["features", "aircraft_legs"]), "aircraft_arrival_delay_mean_1d")
    wanted = {"arrival_delay_minutes", "arrival_known_at", "outcome"}
    assert found == {(dg.AssetKey(["curated", "fact_flights"]), name) for name in wanted}


@pytest.mark.parametrize("group", [group.name for group in PROJECT.features.values() if group.kind != "request"])
def test_the_lineage_of_every_column_of_a_feature_group_ends_at_declared_raw_columns(
    group: str, graph: AssetGraph
) -> None:
    key = dg.AssetKey(["features", group])
    for name in columns(graph, key).keys() - (
        {"event_timestamp"} if PROJECT.features[group].kind == "static" else set()
    ):
        for table, column in leaves(graph, key, name):
            assert graph.get(table).group_name == "raw", (name, table, column)
            assert column in columns(graph, table), (name, table, column)


@pytest.mark.parametrize("product", PROJECT.products)
def test_the_lineage_of_every_column_of_a_training_set_ends_at_declared_raw_columns(
    product: str, graph: AssetGraph
) -> None:
    key = dg.AssetKey(["models", product, "training_set"])
    wanted = PROJECT.model_features(PROJECT.products[product]).keys() | {"label", "label_known_at", "event_timestamp"}
    assert wanted <= columns(graph, key).keys()
    for name in columns(graph, key):
        for table, column in leaves(graph, key, name):
            assert graph.get(table).group_name == "raw", (name, table, column)
            assert column in columns(graph, table), (name, table, column)


def test_a_request_feature_comes_from_the_requests_fields_and_the_features_it_uses(graph: AssetGraph) -> None:
    key = dg.AssetKey(["models", "flight_delay", "training_set"])
    assert deps_of(graph, key, "aircraft_age_years") == {
        (dg.AssetKey(["curated", "fact_flights"]), "scheduled_departure"),
        (dg.AssetKey(["features", "aircraft"]), "aircraft_year_built"),
    }


def test_feature_columns_say_what_they_are_and_who_uses_them(graph: AssetGraph) -> None:
    key = dg.AssetKey(["features", "route_history"])
    column = columns(graph, key)["route_late_share_28d"]
    assert column.description == (
        "Share of arrivals 15 or more minutes late. rate(arrival_delay_minutes >= 15) over 28d. "
        "Used by arrival_delay (model), flight_delay (model), flight_ranking (model)."
    )
    assert column.tags == {"window": "28d"}
    assert graph.get(key).metadata["products"].value == ["arrival_delay", "flight_delay", "flight_ranking"]


def test_a_group_without_owner_and_a_mark_of_personal_data_are_shown_as_declared() -> None:
    platform = open_platform()
    route = platform.project.features["route"].model_copy(update={"owner": None, "tags": ("pii",)})
    project = Project(
        platform.project.sources, {**platform.project.features, "route": route}, platform.project.products
    )
    graph = build_definitions(Platform(project, platform.environment)).resolve_asset_graph()
    node = graph.get(dg.AssetKey(["features", "route"]))
    assert (node.owners, node.tags["pii"]) == ([], "")
    assert columns(graph, node.key)["route_distance_miles"].tags == {"pii": ""}


def test_every_check_blocks_but_those_of_monitoring_and_of_the_catalogue(graph: AssetGraph) -> None:
    checks = {(key.asset_key.path[-1], key.name): graph.get(key).blocking for key in graph.asset_check_keys}
    assert checks[("fact_flights", "contract")]
    assert checks[("fact_flights", "quarantined_share")]
    assert checks[("candidate", "gate_limit")]
    assert checks[("candidate", "gate_champion")]
    assert checks[("online_store", "parity")]
    assert checks[("training_set", "no_leak")]
    assert checks[("training_set", "online_skew")]
    monitored = [key("").path[-1] for key in MONITORED_KEYS]
    warns = {("registry", "catalogue"), *((name, name) for name in monitored)}
    warns |= {("quality", "labels"), ("served_quality", "labels"), ("flights", "rows"), ("weather", "rows")}
    assert {key for key, blocks in checks.items() if not blocks} == warns
