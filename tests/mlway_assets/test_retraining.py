"""Trainings that triggers and people ask for, and days that pass: what begins, what does not, and what is recorded."""

import os
import signal
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from tests_support import redeclared
from typer.testing import CliRunner

from configs.clock import ReplayedTime, TimeIsMovedError
from mlway_assets.advance import StandingClockError, UnfinishedDayError, advance
from mlway_assets.asset_keys import quality_key
from mlway_assets.cli import app
from mlway_assets.definitions import build_definitions
from mlway_assets.jobs import TRAIN
from mlway_assets.local.graph import plan, run_jobs
from mlway_assets.resources import Platform
from mlway_assets.retraining import REASON_TAG, REQUESTS_TAG, Decision, join_training
from serving.training_requests import TrainingRequests

PRODUCT = "flight_delay"
NOW = datetime(2013, 2, 9, tzinfo=UTC)
Copied = tuple[Platform, dg.DagsterInstance]


def tick(platform: Platform, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """What the sensor wants to be run; Dagster's daemon starts each at once, under its key."""
    sensor = build_definitions(platform).resolve_sensor_def(f"retrain_{PRODUCT}")
    with dg.build_sensor_context(instance=instance) as context:
        return list(sensor.evaluate_tick(context).run_requests or ())


def start(instance: dg.DagsterInstance, platform: Platform, request: dg.RunRequest) -> dg.DagsterRun:
    return instance.create_run_for_job(
        build_definitions(platform).resolve_job_def(TRAIN),
        tags={**request.tags, "dagster/run_key": str(request.run_key)},
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset(request.asset_selection or ()),
    )


def require_tags(instance: dg.DagsterInstance, run_id: str) -> dict[str, str]:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return dict(run.tags)


def test_twenty_requests_start_one_training_which_names_them_all(copied: Copied) -> None:
    platform, instance = copied
    inbox = TrainingRequests(platform.environment.training_requests_folder)
    asked = [inbox.add(PRODUCT, f"number {number}\n", "somebody", NOW) for number in range(12)]
    [request] = tick(platform, instance)
    [again] = tick(platform, instance)
    assert again.run_key == request.run_key, "asked twice, the daemon starts it once"
    run = start(instance, platform, request)
    assert set(run.tags[REQUESTS_TAG].split(",")) == {each.id for each in asked}
    assert "somebody: number 0 " in run.tags[REASON_TAG]
    for number in range(12, 20):
        asked.append(inbox.add(PRODUCT, f"number {number}", "somebody", NOW))
        assert tick(platform, instance) == []
    tags = require_tags(instance, run.run_id)
    assert set(tags[REQUESTS_TAG].split(",")) == {each.id for each in asked}, "the training is theirs too"
    assert "somebody: number 0 " in tags[REASON_TAG]
    assert tags[REASON_TAG].endswith("somebody: number 19")
    meanwhile = Decision(PRODUCT, NOW, requests=(asked[0],))
    assert join_training(meanwhile, instance)
    instance.report_run_canceled(run)
    assert not join_training(meanwhile, instance), "a training that has just ended is nobody's any more"
    assert tick(platform, instance) == []
    assert inbox.pending(PRODUCT) == []
    inbox.add(PRODUCT, "later", "somebody", NOW)
    [later] = tick(build_again(platform), instance)
    assert later.run_key != request.run_key, "the next request is a new one, also for a process that began since"


def build_again(platform: Platform) -> Platform:
    return Platform(platform.project, platform.environment)


def test_days_pass_and_a_schedule_trains_what_nobody_promotes(copied: Copied) -> None:
    often = {"triggers": ["schedule"], "every_days": 1, "cooldown": "1d", "weekly_budget": 2}
    platform, instance = redeclared(copied[0], PRODUCT, lambda product: product | {"retraining": often}), copied[1]
    done = list(advance(platform, instance, 2, lambda *_: None))
    assert [each.day for each in done] == [date(2013, 2, 9), date(2013, 2, 10)]
    assert [each.failure for each in done] == [None, None]
    [trained] = done[0].trained
    assert (trained.version, trained.is_champion, trained.problem) == (2, False, None)
    assert trained.reasons == ("schedule: 1 days",)
    assert "budget" in done[1].held_back[0]
    assert platform.clock.now() == build_again(platform).clock.now() == NOW + timedelta(days=2)
    scored = platform.lake.scan("predictions", PRODUCT).select("event_day").unique().collect()["event_day"]
    assert {date(2013, 2, 9), date(2013, 2, 10)} <= set(scored)
    assert platform.registry.require_champion(PRODUCT).version == 1


def test_a_training_that_the_gate_refuses_says_by_which_rule_and_changes_nothing(copied: Copied) -> None:
    often = {"triggers": ["schedule"], "every_days": 1, "cooldown": "1d"}
    rule = {"improvement": {"metric": "log_loss", "samples": 200}}
    platform = redeclared(
        copied[0], PRODUCT, lambda product: product | {"retraining": often, "gate": product["gate"] | rule}
    )
    [day] = advance(platform, copied[1], 1, lambda *_: None)
    assert day.trained[0].is_refused
    assert (day.trained[0].version, day.trained[0].is_champion) == (None, False)
    assert "log_loss is better than the champion's, with 95% confidence: 0.0000" in str(day.trained[0].problem)
    assert len(platform.registry.client.search_model_versions(f"name='{PRODUCT}'")) == 1


def test_days_after_the_last_are_refused_before_anything_runs(copied: Copied) -> None:
    platform, instance = copied
    assert isinstance(platform.clock, ReplayedTime)
    platform.clock.move_to(datetime(2013, 2, 13, tzinfo=UTC))
    with pytest.raises(StandingClockError, match="2013-02-13 is after the last day"):
        list(advance(platform, instance, 1, lambda *_: None))
    assert platform.clock.now() == datetime(2013, 2, 13, tzinfo=UTC)


def test_who_ends_a_day_ends_all_of_them_and_is_told_what_makes_up_for_it(copied: Copied) -> None:
    platform, instance = copied
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def end_by(sent: signal.Signals) -> Callable[[str, str, str], None]:
        def end(_: str, step: str, state: str) -> None:
            if state == "running" and step.startswith("curated__"):
                os.kill(os.getpid(), sent)

        return end

    with pytest.raises(UnfinishedDayError, match="mlway materialize daily --from 2013-02-09 --to 2013-02-09"):
        list(advance(platform, instance, 3, end_by(signal.SIGINT)))
    assert platform.clock.now() == NOW + timedelta(days=1)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(platform, instance, plan(platform, ["daily"]), end_by(signal.SIGTERM))
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert "2013-02-09" not in instance.get_materialized_partitions(quality_key(PRODUCT))


def test_time_moves_on_for_all_who_share_the_file_and_never_back(tmp_path: Path) -> None:
    here, there = (ReplayedTime(NOW, tmp_path / "clock") for _ in range(2))
    assert here.now() == there.now() == NOW
    here.move_to(NOW + timedelta(days=1))
    assert there.now() == NOW + timedelta(days=1)
    with pytest.raises(ValueError, match="does not go back"):
        there.move_to(NOW)


def test_while_days_pass_one_alone_decides_what_is_trained(copied: Copied) -> None:
    platform, instance = copied
    inbox = TrainingRequests(platform.environment.training_requests_folder)
    inbox.add(PRODUCT, "now", "somebody", NOW)
    assert isinstance(platform.clock, ReplayedTime)
    with platform.clock.moving():
        assert tick(build_again(platform), instance) == []
        with pytest.raises(TimeIsMovedError, match="Another `mlway advance`"):
            next(advance(build_again(platform), instance, 1, lambda *_: None))
    assert platform.clock.now() == NOW
    assert len(tick(platform, instance)) == 1


def test_the_commands_of_continuous_training_are_there_and_refuse_what_is_not(copied: Copied) -> None:
    platform, _ = copied
    configs = platform.environment.state.parent / "configs"
    variables = {"MLWAY_CONFIGS": str(configs)}
    days = ["--from", "2013-01-25", "--to", "2013-01-30"]
    for words in (["backtest", "nothing", *days], ["retrain", "nothing", "--reason", "x"]):
        refused = CliRunner().invoke(app, words, env=variables)
        assert refused.exit_code == 1, refused.output
        assert "'nothing'" in refused.output
    standing = CliRunner().invoke(app, ["backtest", PRODUCT, *days], env=variables)
    assert standing.exit_code == 1
    assert "training.split.moving" in standing.output
    assert CliRunner().invoke(app, ["retrain", PRODUCT, "--reason", "x"], env=variables).exit_code == 0
    [asked] = TrainingRequests(platform.environment.training_requests_folder).pending(PRODUCT)
    assert asked.reason == "x"
