"""What configuration says of tables is checked before anything runs."""

from typing import Any

import pytest

from configs.errors import ConfigError
from configs.load import Project, load_project
from mlway_assets.curation import CURATED_TABLES
from mlway_assets.declarations import check_declarations


def changed(group: str, **changes: Any) -> Project:
    project = load_project()
    broken = project.features[group].model_copy(update=changes)
    return Project(project.sources, {**project.features, group: broken}, project.products)


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
    ],
)
def test_a_wrong_table_or_expression_is_named(group: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_declarations(changed(group, **change), CURATED_TABLES)
