"""Labels that come late or say nothing, and a champion whose past is gone: what trains, what is told, what stays."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from bad_day_support import DAY, NEXT, PRODUCT, SPLIT, Delivered
from deltalake import DeltaTable

from configs.clock import ReplayedTime
from mlway_assets.advance import advance
from mlway_assets.asset_keys import input_drift_key, prediction_drift_key, quality_key, served_quality_key
from mlway_assets.local.graph import RunError
from mlway_assets.retraining import decide
from mlway_assets.training_sets import LAYER, build_training_set

ARRIVAL = ("arr_time", "arr_delay", "air_time")


def without_labels(rows: pl.DataFrame) -> pl.DataFrame:
    """Nothing is known of arrivals."""
    return rows.with_columns(pl.lit(None).alias(name) for name in ARRIVAL)


def but_for_the_latest(rows: pl.DataFrame) -> pl.DataFrame:
    """Of the flights that were an hour late or more the labels came first: no fair sample."""
    is_late = pl.col("arr_delay") >= 60
    return rows.with_columns(pl.when(is_late).then(pl.col(name)).alias(name) for name in ARRIVAL)


def learning_from_the_newest(product: dict[str, Any]) -> dict[str, Any]:
    """Trained again once 1,000 more labels are known; judged by the newest days."""
    product["training"]["split"]["moving"] = {"validate_days": 5, "test_days": 5}
    return product | {"retraining": {"triggers": ["new_data", "quality"], "new_rows": 1000, "cooldown": "1d"}}


def test_days_whose_labels_come_thirty_days_late_are_marked_train_nothing_and_count_once_they_are_known(
    delivered: Delivered,
) -> None:
    delivered, served = delivered.changed(learning_from_the_newest), delivered.served()
    platform, instance = delivered.platform, delivered.instance
    delivered.deliver(DAY, but_for_the_latest)
    delivered.deliver(NEXT, without_labels)
    delivered.deliver(NEXT + timedelta(days=1), without_labels)
    done = list(advance(platform, instance, 3, lambda *_: None))
    assert [(day.failure, day.trained, day.held_back) for day in done] == [(None, (), ())] * 3
    told = delivered.checks(quality_key(PRODUCT))
    assert told["quality"].passed
    assert not told["labels"].passed
    assert f"labels are missing of {DAY}, {NEXT}: how good" in str(told["labels"].description)
    assert any(mark.check.startswith("labels of monitoring/") for mark in done[-1].marks)
    assert delivered.served() == served
    product = platform.project.products[PRODUCT]
    learned = build_training_set(product, platform).frame
    assert set(learned.filter(pl.col("scheduled_departure") > datetime(2013, 2, 5, 10, tzinfo=UTC))["label"]) == {True}

    assert isinstance(platform.clock, ReplayedTime)
    platform.clock.move_to(datetime(2013, 3, 9, tzinfo=UTC))
    delivered.deliver(DAY)
    delivered.deliver(NEXT)
    delivered.run("ingest", DAY, NEXT)
    delivered.run("monitor", NEXT)
    told = delivered.checks(quality_key(PRODUCT))
    assert told["labels"].passed
    [reason] = decide(product, platform, instance).reasons
    assert reason.startswith("new_data: ")


def on_time(rows: pl.DataFrame) -> pl.DataFrame:
    """Whatever departed did so, and arrived, to the minute."""
    has_departed = pl.col("dep_time").is_not_null()
    times = {"dep_time": pl.col("sched_dep_time"), "arr_time": pl.col("sched_arr_time"), "air_time": None}
    changed = times | {"dep_delay": pl.lit(0), "arr_delay": pl.lit(0)}
    return rows.with_columns(
        pl.when(has_departed).then(pl.lit(None) if value is None else value).alias(name)
        for name, value in changed.items()
    )


def test_labels_of_one_class_are_refused_before_anything_is_trained(delivered: Delivered) -> None:
    served = delivered.served()
    days = [SPLIT[0] + timedelta(days=number) for number in range(-1, 7)]
    for day in days:
        delivered.deliver(day, on_time)
    delivered.run("ingest", *days)
    with pytest.raises(RunError, match="labels of flight_delay for 'validate'") as refused:
        delivered.run("train")
    assert "from 2013-01-24 until 2013-01-31, are of one class" in str(refused.value)
    client = delivered.platform.registry.client
    assert len(client.search_runs([client.get_experiment_by_name(PRODUCT).experiment_id])) == 1
    assert delivered.served() == served


WATCHED = (input_drift_key(PRODUCT), prediction_drift_key(PRODUCT), quality_key(PRODUCT), served_quality_key(PRODUCT))


def by_monitoring(product: dict[str, Any]) -> dict[str, Any]:
    """Trained again by whatever is watched."""
    return product | {"retraining": {"triggers": ["input_drift", "prediction_drift", "quality"], "cooldown": "1d"}}


@pytest.mark.parametrize("lost", ["files", "record"])
def test_without_what_the_champion_has_learned_from_the_day_goes_on_and_monitoring_says_what_to_do(
    delivered: Delivered, lost: str
) -> None:
    delivered = delivered.changed(by_monitoring)
    platform = delivered.platform
    lose(delivered, lost)
    served = delivered.served()
    delivered.deliver(DAY)
    [day] = advance(platform, delivered.instance, 1, lambda *_: None)
    assert (day.failure, day.trained, day.held_back) == (None, (), ())
    for key in WATCHED:
        for found in delivered.checks(key).values():
            assert not found.passed
            assert "Version 1 of flight_delay cannot be watched" in str(found.description)
            assert "mlway retrain flight_delay" in str(found.description)
    assert sum("cannot be watched" in mark.told for mark in day.marks) == 6
    assert delivered.rows(f"predictions/{PRODUCT}", DAY).height > 800
    assert delivered.served() == served


def lose(delivered: Delivered, what: str) -> None:
    """Lose the training set's files, as by a vacuum, or what says who has learned from it."""
    platform = delivered.platform
    table = DeltaTable(platform.environment.lake.table_uri(LAYER, PRODUCT))
    if what == "files":
        platform.lake.replace(LAYER, PRODUCT, platform.lake.scan(LAYER, PRODUCT).head(10).collect())
        table.update_incremental()
        table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    else:
        platform.registry.client.delete_tag(
            platform.registry.require_champion(PRODUCT).run_id, "mlway.training_set_version"
        )
