"""`kill -9` of a materialization at random moments: every table stays whole, and the next run completes."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import polars as pl
from tests_support import open_small_platform, write_small_configs

from mlway_assets.lake import MissingTableError
from mlway_assets.resources import Platform
from serving.scoring import load_model

MLWAY = str(Path(sys.executable).parent / "mlway")
KILLS = {"ingest": (5, 15), "train": (3, 12), "predict": (2, 8)}
"""How often each job is killed, and after how many seconds at most: its commands take about three to start."""
WHOLE_TABLES = [("raw", "planes"), ("curated", "dim_airport"), ("features", "aircraft_legs"), ("features", "route")]
DAILY_TABLES = [("raw", "flights"), ("raw", "weather"), ("curated", "fact_flights"), ("curated", "fact_weather")]


def test_ten_kills_leave_every_table_whole(tmp_path: Path, built_platform: Platform) -> None:
    platform = open_small_platform(write_small_configs(tmp_path / "configs", tmp_path / "state"))
    environment = os.environ | {"MLWAY_CONFIGS": str(tmp_path / "configs")}
    dice = random.Random(20131001)
    killed = 0
    for job, (kills, seconds) in KILLS.items():
        command = [MLWAY, "materialize", job]
        for _ in range(kills):
            killed += _is_killed(command, environment, dice.uniform(3, seconds))
            _assert_whole(platform, built_platform)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert killed >= 5
    assert _counts(platform) == _counts(built_platform)
    for product in platform.project.products:
        assert platform.registry.require_champion(product).version >= 1


def _is_killed(command: list[str], environment: dict[str, str], after: float) -> bool:
    """Whether the command was killed so many seconds after its start: it may have been done before."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # The random moment itself is what is waited for, not a condition.
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def _assert_whole(platform: Platform, expected: Platform) -> None:
    """A table is as it was before the run or as it is after it: never in between."""
    complete = _counts(expected)
    for table, count in _counts(platform).items():
        assert count in (None, complete[table]), table
    store = Path(platform.environment.feature_store.online.path)
    if store.exists():
        with sqlite3.connect(store) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for product in platform.project.products if platform.registry.exists() else ():
        if (champion := platform.registry.champion(product)) is not None:
            load_model(champion.folder, champion.digest)


def _counts(platform: Platform) -> dict[tuple[str, str], int | None]:
    counts: dict[tuple[str, str], int | None] = {}
    for layer, name in [*WHOLE_TABLES, *DAILY_TABLES]:
        try:
            counts[(layer, name)] = platform.lake.scan(layer, name).select(pl.len()).collect().item()
        except MissingTableError:
            counts[(layer, name)] = None
    return counts
