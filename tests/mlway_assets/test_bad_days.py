"""Days that are delivered badly, each through its file and the real jobs: what runs, what is told, what stays."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import dagster as dg
import polars as pl
from bad_day_support import BEFORE, DAY, NEXT, PRODUCT, Delivered

from configs.clock import ReplayedTime
from mlway_assets.advance import advance
from mlway_assets.asset_keys import curated_key
from mlway_assets.definitions import build_definitions
from mlway_assets.jobs import DAILY

DELAYS = pl.col("dep_delay", "arr_delay", "air_time")


def seconds(rows: pl.DataFrame) -> pl.DataFrame:
    """Minutes as seconds."""
    return rows.with_columns(DELAYS * 60)


def test_a_day_without_its_column_fails_by_name_before_anything_is_written_and_the_next_day_goes_on(
    delivered: Delivered,
) -> None:
    tables, served = delivered.tables(), delivered.served()
    delivered.deliver(DAY, lambda rows: rows.drop("arr_delay"))
    told = delivered.failure(DAY)
    assert f"raw__flights: 1 days could not be read; the others were written.\n{DAY}: " in told
    assert f"{DAY}.csv: columns differ from those declared: missing ['arr_delay'], not declared []" in told
    assert delivered.tables() == tables
    assert delivered.served() == served
    delivered.deliver(NEXT)
    delivered.deliver(DAY)
    delivered.run("ingest", DAY, NEXT)
    assert delivered.rows("curated/fact_flights", DAY).height == 896


def test_minutes_that_have_become_seconds_contradict_the_clock_times_or_the_days_before(delivered: Delivered) -> None:
    tables, served = delivered.tables(), delivered.served()
    delivered.deliver(DAY, seconds)
    told = delivered.failure(DAY)
    # fact_flights knows clock times beside the delays; departures has nothing but its former days.
    assert "quarantined_share of curated/fact_flights: " in told
    assert "departure time contradicts departure delay" in told
    assert f"usual_scale of curated/departures: air_time of {DAY}: half of the values are beyond " in told
    assert "Has a unit changed?" in told
    assert {name: now - tables[name] for name, now in delivered.tables().items() if now != tables[name]} == {
        "raw/flights": 1
    }
    assert delivered.rows("quarantine/fact_flights", DAY).height > 600
    assert delivered.rows("curated/fact_flights", DAY).height == 0
    assert delivered.rows("curated/departures", DAY).height == 0
    assert delivered.served() == served
    delivered.run("train")
    assert delivered.rows(f"training_sets/{PRODUCT}")["scheduled_departure"].max() < datetime(2013, 2, 5, 5, tzinfo=UTC)


def test_a_day_delivered_twice_counts_once_and_of_two_deliveries_the_last_wins(delivered: Delivered) -> None:
    delivered.deliver(DAY)
    delivered.run("ingest", DAY)
    compared = ("curated/fact_flights", "curated/departures", "features/origin_departures", "features/carrier_arrivals")
    before = {name: delivered.rows(name) for name in compared}
    flights = before["curated/fact_flights"].filter(event_day=DAY)
    delivered.deliver(DAY, name="_again")
    delivered.run("ingest", DAY)
    assert all(delivered.rows(name).equals(before[name]) for name in compared)
    assert delivered.rows("raw/flights", DAY).height == 2 * flights.height
    share = delivered.checks(curated_key("fact_flights"))["quarantined_share"]
    assert share.passed
    assert f"{flights.height}: another row is the same in every column" in str(share.description)
    for name in ("", "_again"):
        delivered.deliver(DAY, lambda rows: rows.with_columns(air_time=pl.col("air_time") - 1), name=name)
    delivered.run("ingest", DAY)
    after = delivered.rows("curated/fact_flights", DAY)["air_time_minutes"]
    assert after.sum() == flights["air_time_minutes"].sum() - flights["air_time_minutes"].count()
    assert len(after) == flights.height


def test_a_day_delivered_in_two_versions_at_once_is_refused_for_nothing_tells_which_is_right(
    delivered: Delivered,
) -> None:
    tables, served = delivered.tables(), delivered.served()
    delivered.deliver(DAY)
    delivered.deliver(DAY, lambda rows: rows.with_columns(air_time=pl.col("air_time") - 1), name="_again")
    told = delivered.failure(DAY)
    assert "the same flight twice" in told
    assert "another row has the same key and other values" in told
    assert {**delivered.tables(), "raw/flights": 0} == {**tables, "raw/flights": 0}
    assert delivered.served() == served


def every_day(product: dict[str, Any]) -> dict[str, Any]:
    """With a trigger that asks every day."""
    return product | {"retraining": {"triggers": ["schedule"], "every_days": 1, "cooldown": "1d", "weekly_budget": 3}}


def test_a_day_without_a_row_is_marked_one_without_a_file_fails_neither_trains_and_the_next_goes_on(
    delivered: Delivered,
) -> None:
    delivered, served = delivered.changed(every_day), delivered.served()
    delivered.deliver(DAY, lambda rows: rows.clear())
    delivered.deliver(NEXT + timedelta(days=1))
    empty, missing, good = advance(delivered.platform, delivered.instance, 3, lambda *_: None)
    assert empty.failure is None
    [mark] = [mark for mark in empty.marks if mark.check == "rows of raw/flights"]
    assert f"Without a single row came {DAY}." in mark.told
    assert f"schedule: 1 days; {DAY} of fact_flights came without a row" in empty.held_back[0]
    assert "there is no such file" in str(missing.failure)
    assert f"{NEXT}*.csv" in str(missing.failure)
    assert f"{NEXT} of fact_flights was refused, or could not be read" in missing.held_back[0]
    assert (empty.trained, missing.trained, good.failure) == ((), (), None)
    assert [trained.reasons for trained in good.trained] == [("schedule: 3 days",)]
    assert delivered.rows(f"predictions/{PRODUCT}", good.day).height > 800
    assert delivered.served()[0] == served[0]


def test_a_day_that_comes_late_is_scored_and_watched_once_it_has_come(delivered: Delivered) -> None:
    platform, instance = delivered.platform, delivered.instance
    sensor = build_definitions(platform).resolve_sensor_def("late_days")

    def tick() -> list[tuple[str, ...]]:
        with dg.build_sensor_context(instance=instance) as context:
            asked = sensor.evaluate_tick(context).run_requests or ()
        return [tuple(sorted(v for k, v in request.tags.items() if "partition_range" in k)) for request in asked]

    delivered.run(DAILY, BEFORE, products=(PRODUCT,))
    assert "could not be read" in delivered.failure(DAY)
    delivered.deliver(NEXT)
    delivered.run(DAILY, NEXT, products=(PRODUCT,))
    assert isinstance(platform.clock, ReplayedTime)
    platform.clock.move_to(datetime.combine(NEXT + timedelta(days=1), time(12), UTC))
    assert tick() == [], "nothing can be done for a day that is not there"
    delivered.deliver(DAY)
    delivered.run("ingest", DAY)
    assert tick() == [(DAY.isoformat(), DAY.isoformat())]
    curated = dg.AssetMaterialization(curated_key("fact_flights"), partition=DAY.isoformat())
    instance.report_runless_asset_event(curated)
    assert tick() == [], "what came anew has not reached the features yet"
    delivered.run("ingest", DAY)
    assert tick() == [(DAY.isoformat(), DAY.isoformat())]
    delivered.run(DAILY, DAY, products=(PRODUCT,))
    assert tick() == []
    assert delivered.rows(f"predictions/{PRODUCT}", DAY).height > 800
