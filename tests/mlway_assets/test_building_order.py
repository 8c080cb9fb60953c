"""What `mlway up` builds first, and what it finds missing for whom."""

from dataclasses import replace

import dagster as dg
import pytest

from mlway_assets.local.graph import RunError, missing_jobs
from mlway_assets.local.up import products_in_order
from mlway_assets.registry import CHAMPION
from mlway_assets.resources import Platform


def with_first(platform: Platform, first: str | None) -> Platform:
    return replace(platform, environment=platform.environment.model_copy(update={"first_product": first}))


def test_the_environments_first_product_is_built_before_the_others(built_platform: Platform) -> None:
    assert products_in_order(built_platform) == (["flight_delay"], ["arrival_delay", "flight_ranking"])
    assert products_in_order(with_first(built_platform, None)) == (
        ["arrival_delay"],
        ["flight_delay", "flight_ranking"],
    )


def test_without_a_product_nothing_is_first(built_platform: Platform) -> None:
    empty = replace(with_first(built_platform, None), project=replace(built_platform.project, products={}))
    assert products_in_order(empty) == ([], [])


def test_a_first_product_that_there_is_not_is_named_with_those_there_are(built_platform: Platform) -> None:
    with pytest.raises(RunError, match=r"names the first product 'churn'. Known: arrival_delay, flight_delay"):
        products_in_order(with_first(built_platform, "churn"))


def test_what_is_missing_is_told_by_product(copied: tuple[Platform, dg.DagsterInstance]) -> None:
    platform, instance = copied
    platform.registry.client.delete_registered_model_alias("arrival_delay", CHAMPION)
    assert missing_jobs(platform, instance, ["flight_delay"]) == []
    assert missing_jobs(platform, instance, ["arrival_delay", "flight_ranking"]) == ["train"]
    assert missing_jobs(platform, instance) == ["train"]
