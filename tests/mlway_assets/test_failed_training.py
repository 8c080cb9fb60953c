"""Trainings that fail midway: champion and endpoint stay, nothing half-registered is left, the next may train."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from bad_day_support import NEXT, PRODUCT, Delivered

from configs.clock import ReplayedTime
from mlway_assets.advance import advance
from mlway_assets.asset_keys import online_store_key
from mlway_assets.definitions import build_definitions
from mlway_assets.local.graph import RunError
from mlway_assets.resources import Platform
from mlway_assets.retraining import decide, runs_on_their_way

KILLED = """
import os, signal
from mlway_assets.registry import Registry
Registry._publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from mlway_assets.cli import app
app(["materialize", "train"])
"""
"""The command, killed when a version has its number and not its files."""


def with_trigger(product: dict[str, Any], **parameters: int) -> dict[str, Any]:
    """Asks every day, and every second day is heard; `parameters` are LightGBM's."""
    product["training"]["algorithms"]["lightgbm"] |= parameters
    return product | {"retraining": {"triggers": ["schedule"], "every_days": 1, "cooldown": "2d", "weekly_budget": 3}}


def test_a_training_that_lightgbm_refuses_changes_nothing_and_is_held_off_for_the_cool_down_only(
    delivered: Delivered,
) -> None:
    served, last = delivered.served(), NEXT + timedelta(days=1)
    for day in (NEXT, last):
        delivered.deliver(day)
    delivered = delivered.changed(lambda product: with_trigger(product, num_leaves=1))
    platform, instance = delivered.platform, delivered.instance
    move_to(platform, NEXT)
    failed, held_off = advance(platform, instance, 2, lambda *_: None)
    assert [trained.version for trained in failed.trained] == [None]
    assert "num_leaves" in str(failed.trained[0].problem)
    assert (failed.failure, held_off.failure, held_off.trained) == (None, None, ())
    assert "less than the cool-down" in held_off.held_back[0]
    assert delivered.served() == served
    move_to(platform, last + timedelta(days=2))
    product = platform.project.products[PRODUCT]
    assert "the online store is as of" in str(decide(product, platform, instance).held_back)
    filled = {"as_of": platform.clock.now().isoformat()}
    instance.report_runless_asset_event(dg.AssetMaterialization(online_store_key(), metadata=filled))
    assert decide(product, platform, instance).reasons == ("schedule: 2 days",)


def move_to(platform: Platform, day: date) -> None:
    """Let the clock show the beginning of a day."""
    assert isinstance(platform.clock, ReplayedTime)
    platform.clock.move_to(datetime.combine(day, time(0), UTC))


def in_the_way(folder: Path) -> Callable[[], None]:
    """A file where the folder is to be, as on a disk that cannot be written; gives how to mend it."""
    away = folder.with_name(folder.name + "-away")
    if folder.exists():
        folder.rename(away)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("", encoding="ascii")

    def mend() -> None:
        folder.unlink()
        if away.exists():
            away.rename(folder)

    return mend


def test_a_disk_that_fails_while_a_model_is_written_leaves_no_version_and_the_next_training_makes_one(
    delivered: Delivered,
) -> None:
    served, environment = delivered.served(), delivered.platform.environment
    run_files = Path(environment.experiments.artifacts) / PRODUCT
    version_files = Path(environment.model_store) / PRODUCT / "2"
    for folder in (run_files, version_files):
        mend = in_the_way(folder)
        with pytest.raises(RunError, match=r"Not a directory|File exists"):
            delivered.run("train")
        mend()
        assert delivered.served() == served
    delivered.run("train")
    after = delivered.served()
    assert (after[0], len(after[1]), len(after[3])) == (served[0], 2, 2)


def test_a_training_that_is_killed_while_it_registers_leaves_a_version_that_nobody_serves_and_the_next_removes(
    delivered: Delivered,
) -> None:
    champion = delivered.served()[0]
    variables = os.environ | {"MLWAY_CONFIGS": str(delivered.root / "configs")}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=variables, check=False, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert delivered.served()[0] == champion
    assert len(runs_on_their_way(PRODUCT, delivered.instance)) == 1
    sensor = build_definitions(delivered.platform).resolve_sensor_def(f"retrain_{PRODUCT}")
    with dg.build_sensor_context(instance=delivered.instance) as context:
        sensor.evaluate_tick(context)
    assert runs_on_their_way(PRODUCT, delivered.instance) == []
    assert delivered.served()[1] == {"1", "2"}
    delivered.run("train")
    after = delivered.served()
    assert (after[0], after[1], after[3]) == (champion, {"1", "3"}, ("1", "3"))
