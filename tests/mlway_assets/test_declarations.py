"""What configuration says of tables is checked before anything runs."""

from typing import Any

import pytest

from configs.errors import ConfigError
from configs.features import ColumnFeature
from configs.gates import Behaviour, KnownCase
from configs.load import Project, load_project
from mlway_assets.curation import CURATED_TABLES
from mlway_assets.declarations import check_declarations


def changed(group: str, **changes: Any) -> Project:
    project = load_project()
    broken = project.features[group].model_copy(update=changes)
    return Project(project.sources, {**project.features, group: broken}, project.products)


def computed(expression: str) -> dict[str, Any]:
    return {"features": {"it": ColumnFeature(expression=expression, type="int64")}}


def test_the_bundled_declarations_hold() -> None:
    check_declarations(load_project(), CURATED_TABLES)


@pytest.mark.parametrize(
    ("group", "change", "message"),
    [
        (
            "route",
            {"table": "fact_trains"},
            r"features/route\.yaml, field 'table': there is no curated table 'fact_trains'",
        ),
        ("aircraft_legs", {"where": "outcome <>"}, "field 'where': .* does not parse"),
        ("aircraft_legs", {"where": "colour = 'red'"}, "colour is not among the columns"),
        ("aircraft_legs", {"known_at": "landed_at"}, "field 'known_at': landed_at is not among"),
        ("departure_request", {"uses": {}}, "aircraft_.* is not among the columns"),
        ("departure_request", computed("SUM(aircraft_year_built)"), r"looks at more than one row \(Agg\)"),
        ("departure_request", computed("LAG(carrier) OVER (ORDER BY scheduled_departure)"), "more than one row"),
        ("departure_request", computed("COUNT(*)"), "looks at more than one row"),
        ("departure_request", computed("carrier * scheduled_departure"), "features.it.*cannot be computed"),
        ("departure_request", computed("aircraft_year_built - departure_local"), "features.it.*cannot be computed"),
    ],
)
def test_a_wrong_table_or_expression_is_named(group: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_declarations(changed(group, **change), CURATED_TABLES)


def test_a_label_that_looks_at_other_rows_is_refused() -> None:
    project = load_project()
    product = project.products["flight_delay"]
    label = product.label.model_copy(update={"expression": "arrival_delay_minutes >= AVG(arrival_delay_minutes)"})
    broken = Project(project.sources, project.features, {"it": product.model_copy(update={"label": label})})
    with pytest.raises(ConfigError, match=r"label\.expression.*looks at more than one row"):
        check_declarations(broken, CURATED_TABLES)


def test_a_raw_table_called_like_that_of_a_decision_log_is_refused() -> None:
    project = load_project()
    source = project.sources["airports_supplement"]
    taken = source.model_copy(update={"tables": {"decisions_flight_delay": source.tables["airports_supplement"]}})
    sources = {**project.sources, "airports_supplement": taken}
    with pytest.raises(ConfigError, match="is that of flight_delay's decision log"):
        check_declarations(Project(sources, project.features, project.products), CURATED_TABLES)


@pytest.mark.parametrize(
    ("when", "problem"),
    [("carier = 'AA'", "carier is not among the columns"), ("route_distance_miles + 1", "not true or false")],
)
def test_a_known_case_is_a_condition_over_what_rows_have(when: str, problem: str) -> None:
    project = load_project()
    product = project.products["flight_delay"]
    behaviour = Behaviour(cases=(KnownCase(name="far", when=when, minimum=0.1),))
    gate = product.gate.model_copy(update={"behaviour": behaviour})
    broken = Project(project.sources, project.features, {"it": product.model_copy(update={"gate": gate})})
    with pytest.raises(ConfigError, match=rf"gate\.behaviour\.cases\.far\.when.*{problem}"):
        check_declarations(broken, CURATED_TABLES)
