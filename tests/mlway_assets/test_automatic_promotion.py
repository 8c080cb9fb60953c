"""Later versions that nobody needs to approve: those that were held beside the champion, and are surely better."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from tests_support import redeclared

from configs.gates import Cost
from feature_repo.store import register_features
from mlway_assets.local.graph import RunError, plan, run_jobs
from mlway_assets.model_card import read_card
from mlway_assets.models import judge
from mlway_assets.resources import Platform

PRODUCT = "flight_delay"
Copied = tuple[Platform, dg.DagsterInstance]
Content = dict[str, Any]


def trained(copied: Copied, change: Callable[[Content], Content]) -> Platform:
    """The platform after a training of the changed product."""
    platform, instance = redeclared(copied[0], PRODUCT, change), copied[1]
    register_features(platform.environment, platform.project)
    run_jobs(platform, instance, plan(platform, ["train"], products=[PRODUCT]), lambda *_: None)
    return platform


def asking(margin: float) -> Callable[[Content], Content]:
    """The gate wants so much of an improvement; below zero, the challenger may be worse."""
    rule = {"improvement": {"metric": "log_loss", "margin": margin, "samples": 200}}
    return lambda product: product | {"gate": product["gate"] | rule}


def aliases(platform: Platform) -> dict[str, int]:
    return {name: int(at) for name, at in platform.registry.client.get_registered_model(PRODUCT).aliases.items()}


def test_who_has_shown_what_the_gate_asks_for_becomes_champion(copied: Copied) -> None:
    platform = trained(copied, asking(margin=-0.5))
    assert aliases(platform) == {"champion": 2, "challenger": 2}
    card = read_card(platform.registry, platform.registry.require_champion(PRODUCT))
    assert card.reason == "mlway materialize train"
    assert card.approvals[-1].note == "The environment says: promotion.later_versions is automatic."


def test_who_has_not_is_not_even_registered(copied: Copied) -> None:
    with pytest.raises(RunError, match="log_loss is better than the champion's, with 95% confidence") as error:
        trained(copied, asking(margin=0.01))
    assert "gate_champion" in error.value.broken_checks
    assert aliases(copied[0]) == {"champion": 1, "challenger": 1}


def test_who_could_not_be_held_beside_the_champion_waits_for_a_person(copied: Copied) -> None:
    """The champion needs features that new rows lack; what is recorded of it was reached on rows of its own time."""

    def without_a_group(product: Content) -> Content:
        features = [name for name in product["features"] if name != "flight_number_history"]
        return asking(margin=-0.5)(product) | {"features": features}

    platform = trained(copied, without_a_group)
    assert aliases(platform) == {"champion": 1, "challenger": 2}
    run_id = platform.registry.client.get_model_version(PRODUCT, "2").run_id
    assert "champion" not in {rule.subject for rule in judge(platform.project.products[PRODUCT], platform, run_id)}


@pytest.mark.parametrize(
    ("cost", "name"),
    [
        ({"maximum_megabytes": 0.001}, "Megabytes of the model"),
        ({"maximum_microseconds": 0.001}, "Microseconds of one row's score"),
    ],
)
def test_a_model_that_is_too_large_or_too_slow_for_the_endpoint_does_not_pass(
    built_platform: Platform, cost: dict[str, float], name: str
) -> None:
    product, run_id = built_platform.project.products[PRODUCT], built_platform.registry.require_champion(PRODUCT).run_id
    gate = product.gate.model_copy(update={"cost": Cost.model_validate(cost)})
    rules = judge(product.model_copy(update={"gate": gate}), built_platform, run_id)
    assert [rule.name for rule in rules if not rule.is_met] == [name]
    assert all(rule.is_met for rule in judge(product, built_platform, run_id))
