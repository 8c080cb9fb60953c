"""What is monitored opens a training once it is past its limits, and only by the triggers that are declared."""

from datetime import date, datetime, time, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest
from tests_support import redeclared

from configs.clock import ReplayedTime
from mlway_assets.asset_keys import input_drift_key, online_store_key, prediction_drift_key, quality_key
from mlway_assets.local.graph import plan, run_jobs
from mlway_assets.resources import Platform
from mlway_assets.retraining import AS_OF, decide
from mlway_assets.suspicions import drifted_features

PRODUCT = "flight_delay"
WATCHED = ["input_drift", "prediction_drift", "quality"]
FIRST, LAST = date(2013, 2, 1), date(2013, 2, 8)
Copied = tuple[Platform, dg.DagsterInstance]


def told_of(name: str, instance: dg.DagsterInstance) -> str:
    """What the newest of these checks said."""
    keys = {"input_drift": input_drift_key, "prediction_drift": prediction_drift_key, "quality": quality_key}
    key = dg.AssetCheckKey(keys[name](PRODUCT), name)
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    event = record.event.dagster_event if record.event else None
    assert event is not None
    return str(event.asset_check_evaluation_data.description)


@pytest.fixture
def upside_down(copied: Copied) -> Platform:
    """A platform whose champion gives each flight of a week the opposite of its score, a day after it was trained.

    No feature may have drifted at all, so that some have.
    """

    def watched(product: dict[str, Any]) -> dict[str, Any]:
        limits = {"maximum_missing_share_difference": 0, "maximum_drifted_share": 0}
        return product | {
            "monitoring": product["monitoring"] | {"input_drift": limits},
            "retraining": {"triggers": WATCHED, "cooldown": "12h"},
        }

    platform, instance = redeclared(copied[0], PRODUCT, watched), copied[1]
    run_jobs(platform, instance, plan(platform, ["predict"], FIRST, LAST, [PRODUCT]), lambda *_: None)
    scored = platform.lake.scan("predictions", PRODUCT).filter(pl.col("event_day") <= LAST).collect()
    days = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
    platform.lake.replace_days("predictions", PRODUCT, scored.with_columns(score=1 - pl.col("score")), days)
    assert isinstance(platform.clock, ReplayedTime)
    platform.clock.move_to(datetime.combine(LAST, time(23), platform.clock.now().tzinfo) + timedelta(hours=14))
    filled = {AS_OF: platform.clock.now().isoformat()}
    instance.report_runless_asset_event(dg.AssetMaterialization(online_store_key(), metadata=filled))
    return platform


def test_what_is_past_its_limits_opens_a_training_by_the_triggers_that_are_declared(
    copied: Copied, upside_down: Platform
) -> None:
    platform, instance = upside_down, copied[1]
    product = platform.project.products[PRODUCT]
    assert decide(product, platform, instance).reasons == (), "nothing was monitored yet"
    run_jobs(platform, instance, plan(platform, ["monitor"], LAST, LAST, [PRODUCT]), lambda *_: None)
    assert decide(product, platform, instance).reasons == tuple(WATCHED)
    told = {name: told_of(name, instance) for name in WATCHED}
    assert f"mlway materialize report --product {PRODUCT} --from {LAST} --to {LAST}" in told["input_drift"]
    assert "Features that had drifted by 2013-02-08: " in drifted_features(product, platform, LAST)
    for name in ("prediction_drift", "quality"):
        assert "drifted" in told[name]
    for trigger in WATCHED:
        alone = product.retraining.model_copy(update={"triggers": (trigger,)})
        assert decide(product.model_copy(update={"retraining": alone}), platform, instance).reasons == (trigger,)
