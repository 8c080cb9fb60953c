"""Replayed policies: what they know, when they train, how shifts and alarms are counted, and what the command says."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from tests_support import redeclared
from typer.testing import CliRunner

from configs.monitoring import QualitySlices
from configs.splits import MovingParts
from mlway_assets.cli import app
from mlway_assets.compute.backtest import POLICIES, Backtest, BacktestError, Replay
from mlway_assets.compute.backtest_summary import Outcome, summarize
from mlway_assets.compute.population import LABEL, LABEL_KNOWN_AT, in_order
from mlway_assets.resources import Platform
from mlway_assets.training_sets import LAYER

PRODUCT = "flight_delay"
BEGIN, SHIFT = date(2013, 4, 1), date(2013, 6, 20)
"""Of days that are made up, and of those that are worse."""


@pytest.fixture(scope="module")
def labelled(built_platform: Platform) -> pl.DataFrame:
    return in_order(built_platform.lake.scan(LAYER, PRODUCT).collect(), built_platform.project.products[PRODUCT])


def backtest(platform: Platform, rows: pl.DataFrame) -> Backtest:
    product = platform.project.products[PRODUCT]
    split = product.training.split.model_copy(update={"moving": MovingParts(validate_days=3, test_days=5)})
    retraining = product.retraining.model_copy(update={"every_days": 3})
    product = product.with_split(split).model_copy(update={"retraining": retraining})
    return Backtest(product, platform.project.model_features(product), rows, timedelta(days=7))


def test_a_replay_knows_nothing_before_its_time(built_platform: Platform, labelled: pl.DataFrame) -> None:
    first, last = date(2013, 1, 25), date(2013, 1, 30)
    honest = backtest(built_platform, labelled).replay("weekly", ("schedule",), first, last)
    assert [training.day for training in honest.trainings] == [first, date(2013, 1, 28)]
    newest = datetime(2013, 1, 28, tzinfo=UTC)
    is_unknown = pl.col(LABEL_KNOWN_AT) > newest
    assert labelled.select(is_unknown.sum()).item() > 100
    poisoned = labelled.with_columns(pl.when(is_unknown).then(~pl.col(LABEL)).otherwise(LABEL).alias(LABEL))
    again = backtest(built_platform, poisoned).replay("weekly", ("schedule",), first, last)
    assert again.rows["score"].equals(honest.rows["score"])
    assert not again.rows[LABEL].equals(honest.rows[LABEL])


def test_policies_are_compared_with_never_training_again(built_platform: Platform, labelled: pl.DataFrame) -> None:
    replayed = backtest(built_platform, labelled)
    days = (date(2013, 1, 28), date(2013, 2, 7))
    never = replayed.replay("never", (), *days)
    quality = replayed.replay("all", ("quality", "input_drift", "prediction_drift"), *days)
    same, other = summarize(built_platform.project.products[PRODUCT], [never, quality], never)
    assert (same.better.low, same.better.mean, same.better.high) == (0, 0, 0)
    assert (same.trainings, same.alarms) == (1, 0)
    assert (
        len(never.rows)
        == len(quality.rows)
        == len(labelled.filter(pl.col("scheduled_departure").dt.date().is_between(*days)))
    )
    assert other.trainings == len(quality.trainings) <= 1 + len(quality.alarms)


def test_a_product_whose_parts_stand_still_cannot_be_replayed(built_platform: Platform, labelled: pl.DataFrame) -> None:
    product = built_platform.project.products[PRODUCT]
    with pytest.raises(BacktestError, match=r"declare `training\.split\.moving`"):
        Backtest(product, {}, labelled, timedelta(0))


def test_a_slice_that_is_past_its_limits_is_an_alarm_as_in_production(
    built_platform: Platform, labelled: pl.DataFrame
) -> None:
    """Labels of one carrier turn over; of a day's flights it has so few that the whole says nothing."""
    days = (date(2013, 1, 25), date(2013, 2, 7))
    is_ruined = (pl.col("carrier") == "US") & (pl.col("scheduled_departure").dt.date() >= days[0])
    ruined = labelled.with_columns(pl.when(is_ruined).then(~pl.col(LABEL)).otherwise(LABEL).alias(LABEL))
    alarms = {}
    for by in (("carrier",), ("origin",)):
        replayed = backtest(built_platform, ruined)
        quality = replayed._product.monitoring.quality.model_copy(
            update={"maximum_worsening": 10.0, "change": None, "slices": QualitySlices(by=by, minimum_rows=100)}
        )
        monitoring = replayed._product.monitoring.model_copy(update={"quality": quality})
        replayed._product = replayed._product.model_copy(update={"monitoring": monitoring})
        alarms[by] = replayed.replay("quality", ("quality",), *days).alarms
    assert alarms["carrier",]
    assert not alarms["origin",]


def made_up(policy: str, alarms: tuple[date, ...] = ()) -> Replay:
    """A hundred days of a model that is right until the shift, and from then on is no better than chance."""
    drawn = np.random.default_rng(7)
    days = [BEGIN + timedelta(days=number) for number in range(100)]
    is_late = drawn.random((100, 80)) < 0.3
    knows = np.asarray([day < SHIFT for day in days])[:, np.newaxis]
    score = np.where(knows, np.where(is_late, 0.7, 0.2), 0.45) + drawn.normal(0, 0.05, is_late.shape)
    rows = pl.DataFrame(
        {
            "event_day": np.repeat(np.array(days, "datetime64[D]"), 80),
            LABEL: is_late.ravel(),
            "score": score.ravel().clip(0.01, 0.99),
        }
    ).with_columns(pl.col("event_day").cast(pl.Date))
    return Replay(policy, POLICIES[policy], rows, (), alarms)


def outcome(platform: Platform, replay: Replay) -> Outcome:
    [found] = summarize(platform.project.products[PRODUCT], [replay], made_up("never"))
    return found


def test_days_are_counted_from_the_first_day_that_is_worse_to_the_first_alarm(built_platform: Platform) -> None:
    alarms = tuple(SHIFT + timedelta(days=days) for days in (-40, -39, -36, 3, 4))
    found = outcome(built_platform, made_up("drift", alarms))
    assert found.shifts == [SHIFT]
    assert found.detection_days == {SHIFT: 3}
    assert (found.alarms, found.false_alarms) == (2, 1), "alarms that pause for three days are one"


def test_who_watches_and_tells_nothing_is_not_like_who_does_not_watch(built_platform: Platform) -> None:
    assert outcome(built_platform, made_up("quality")).detection_days == {SHIFT: None}
    too_late = made_up("quality", (SHIFT + timedelta(days=29),))
    assert outcome(built_platform, too_late).detection_days == {SHIFT: None}
    assert outcome(built_platform, made_up("weekly")).detection_days == {}


@pytest.fixture
def moving(copied: tuple[Platform, dg.DagsterInstance]) -> Path:
    """The folder of configuration in which the product's parts move."""

    def moving(product: dict[str, Any]) -> dict[str, Any]:
        product["training"]["split"]["moving"] = {"validate_days": 3, "test_days": 5}
        return product | {"retraining": {"triggers": ["schedule"], "every_days": 3, "cooldown": "1d"}}

    platform = redeclared(copied[0], PRODUCT, moving)
    return platform.environment.state.parent / "configs"


def test_the_command_compares_policies_and_ends_by_what_the_declared_one_is_worth(moving: Path, tmp_path: Path) -> None:
    words = ["backtest", PRODUCT, "--from", "2013-01-28", "--to", "2013-02-05", "--policy", "drift", "--json"]
    done = CliRunner().invoke(app, [*words, "--output", str(tmp_path)], env={"MLWAY_CONFIGS": str(moving)})
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["default_policy"] == "weekly"
    assert [each["policy"] for each in found["policies"]] == ["never", "drift", "weekly"]
    assert [each["trainings"] for each in found["policies"] if each["policy"] != "drift"] == [1, 3]
    weekly = found["policies"][-1]
    assert found["does_default_beat_never"] == (weekly["better_than_never"]["low"] > 0)
    assert done.exit_code == (0 if found["does_default_beat_never"] else 1)
    assert json.loads((tmp_path / "backtest.json").read_text(encoding="utf-8")) == found
    assert (tmp_path / "backtest.png").read_bytes().startswith(b"\x89PNG")
    assert "<h2>Trainings</h2>" in (tmp_path / "backtest.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("low", "status"), [(0.001, 0), (0.0, 1), (-0.001, 1)])
def test_the_status_says_whether_the_declared_policy_is_surely_better(
    moving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, low: float, status: int
) -> None:
    monkeypatch.setattr("mlway_assets.backtesting.replay_policies", lambda *_: [made_up("never"), made_up("weekly")])

    def bettered(product: object, replays: list[Replay], never: Replay) -> list[Outcome]:
        found = summarize(product, replays, never)  # type: ignore[arg-type]
        return [replace(each, better=replace(each.better, low=low)) for each in found]

    monkeypatch.setattr("mlway_assets.compute.backtest_summary.summarize", bettered)
    words = ["backtest", PRODUCT, "--from", "2013-04-01", "--to", "2013-07-09", "--policy", "weekly"]
    done = CliRunner().invoke(app, [*words, "--output", str(tmp_path)], env={"MLWAY_CONFIGS": str(moving)})
    assert done.exit_code == status, done.output
