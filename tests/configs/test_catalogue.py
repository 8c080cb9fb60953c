"""What the declarations say of features: their use, their marks, and what somebody should mind."""

from dataclasses import replace
from typing import Any

import pytest

from configs.catalogue import catalogue_warnings, declared_features, using_products
from configs.load import Project, load_project

PROJECT = load_project()
PRODUCTS = ["arrival_delay", "flight_delay", "flight_ranking"]


def changed(group: str, product: dict[str, Any] | None = None, **changes: Any) -> Project:
    groups = {**PROJECT.features, group: PROJECT.features[group].model_copy(update=changes)}
    products = {name: found.model_copy(update=product or {}) for name, found in PROJECT.products.items()}
    return Project(PROJECT.sources, groups, products)


def messages(project: Project) -> list[str]:
    return [warning.message for warning in catalogue_warnings(project)]


def test_every_bundled_feature_has_an_owner_and_a_description() -> None:
    for group in PROJECT.features.values():
        for feature in declared_features(PROJECT, group).values():
            assert feature.owner, feature
            assert feature.description.endswith("."), feature


def test_a_windowed_feature_says_its_formula_and_window() -> None:
    feature = declared_features(PROJECT, PROJECT.features["origin_departures"])["origin_late_departure_share_6h"]
    assert (feature.formula, feature.window, feature.type) == ("rate(departure_delay_minutes >= 15)", "6h", "float64")


def test_a_product_uses_what_its_model_sees_and_what_its_request_features_read() -> None:
    features = declared_features(PROJECT, PROJECT.features["aircraft"])
    assert features["aircraft_seats"].products == dict.fromkeys(PRODUCTS, "model")
    assert features["aircraft_year_built"].products == dict.fromkeys(PRODUCTS, "input of departure_request")
    assert using_products(PROJECT, PROJECT.features["aircraft"]) == PRODUCTS


def test_a_feature_that_is_excluded_and_read_by_nothing_is_unused() -> None:
    assert messages(PROJECT) == ["No product uses origin_weather:temperature. Use it, or take it out of its file."]


def test_inputs_of_a_request_group_that_no_product_has_are_unused() -> None:
    product = PROJECT.products["flight_delay"]
    groups = tuple(name for name in product.features if name != "departure_request")
    found = catalogue_warnings(changed("route", {"features": groups}))
    unused = {(warning.group, warning.feature) for warning in found if warning.kind == "unused"}
    assert ("aircraft", "aircraft_year_built") in unused
    assert ("departure_request", "carrier_code") in unused
    assert ("aircraft", "aircraft_seats") not in unused


def test_a_group_without_owner_is_a_warning_and_no_error() -> None:
    assert "route has no owner: add `owner` to its file." in messages(changed("route", owner=None))


def test_a_deprecated_feature_in_use_is_a_warning() -> None:
    text = "route:route_distance_miles is deprecated, and arrival_delay, flight_delay, flight_ranking use it."
    assert text in messages(changed("route", tags=("deprecated",)))


@pytest.mark.parametrize(("group_tags", "feature_tags"), [(("pii",), ()), ((), ("pii",)), (("pii",), ("pii",))])
def test_a_feature_carries_its_own_tags_and_its_groups(
    group_tags: tuple[str, ...], feature_tags: tuple[str, ...]
) -> None:
    feature = PROJECT.features["route"].features["route_distance_miles"].model_copy(update={"tags": feature_tags})
    project = changed("route", tags=group_tags, features={"route_distance_miles": feature})
    declared = declared_features(project, project.features["route"])["route_distance_miles"]
    assert declared == replace(declared, tags=("pii",))
