"""Flights in UTC: across both clock changes and midnight, with what is known when."""

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from mlway_assets.compute.flights import curate_flights
from mlway_assets.compute.quarantine import Curated

AIRPORTS = pl.DataFrame(
    {
        "airport": ["JFK", "LAX", "BOS", "SJU", "HNL"],
        "time_zone": [
            "America/New_York",
            "America/Los_Angeles",
            "America/New_York",
            "America/Puerto_Rico",
            "Pacific/Honolulu",
        ],
    }
)
FLIGHT: dict[str, Any] = {
    "event_day": date(2013, 6, 1),
    "dep_time": 1010,
    "sched_dep_time": 1000,
    "dep_delay": 10,
    "arr_time": 1330,
    "sched_arr_time": 1300,
    "arr_delay": 30,
    "carrier": "B6",
    "flight": 1,
    "tailnum": "N1",
    "origin": "JFK",
    "dest": "LAX",
    "air_time": 340,
    "distance": 2475,
}
CANCELLED = {"dep_time": None, "dep_delay": None, "arr_time": None, "arr_delay": None, "air_time": None}


def curate(*changes: dict[str, Any]) -> Curated:
    schema = {
        name: pl.Date if name == "event_day" else pl.Int64 if isinstance(v, int) else pl.String
        for name, v in FLIGHT.items()
    }
    return curate_flights(pl.DataFrame([FLIGHT | change for change in changes], schema=schema), AIRPORTS)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_times_are_utc_at_each_airports_own_zone() -> None:
    row = curate({}).rows.to_dicts()[0]
    assert row["scheduled_departure"] == moment("2013-06-01T14:00")
    assert row["scheduled_arrival"] == moment("2013-06-01T20:00")
    assert row["actual_departure"] == row["departure_known_at"] == moment("2013-06-01T14:10")
    assert row["actual_arrival"] == row["arrival_known_at"] == moment("2013-06-01T20:30")


@pytest.mark.parametrize(
    ("day", "departs", "arrives_clock", "destination", "scheduled", "arrives"),
    [
        (date(2013, 6, 1), 2330, 251, "LAX", "2013-06-02T03:30", "2013-06-02T09:51"),  # past midnight
        (
            date(2013, 3, 9),
            2330,
            345,
            "SJU",
            "2013-03-10T04:30",
            "2013-03-10T07:45",
        ),  # spring, from one side to the other
        (date(2013, 3, 10), 1000, 1120, "BOS", "2013-03-10T14:00", "2013-03-10T15:20"),  # the day itself, after
        (
            date(2013, 3, 9),
            2359,
            330,
            "LAX",
            "2013-03-10T04:59",
            "2013-03-10T10:30",
        ),  # 02:30 to 03:30 there is no clock
        (
            date(2013, 11, 2),
            2350,
            405,
            "BOS",
            "2013-11-03T03:50",
            "2013-11-03T09:05",
        ),  # autumn, from one side to the other
        (date(2013, 11, 3), 120, 1300, "BOS", "2013-11-03T05:20", "2013-11-03T18:00"),  # the hour that comes twice
        (date(2013, 6, 1), 1000, 1440, "HNL", "2013-06-01T14:00", "2013-06-02T00:40"),  # another date in UTC
    ],
)
def test_scheduled_times_hold_across_midnight_and_clock_changes(
    day: date, departs: int, arrives_clock: int, destination: str, scheduled: str, arrives: str
) -> None:
    flight = {"event_day": day, "sched_dep_time": departs, "sched_arr_time": arrives_clock, "dest": destination}
    row = curate(flight | CANCELLED).rows.to_dicts()[0]
    assert (row["scheduled_departure"], row["scheduled_arrival"]) == (moment(scheduled), moment(arrives))


def test_midnight_recorded_as_2400_is_the_end_of_the_day() -> None:
    flight = {"sched_dep_time": 2345, "dep_time": 2400, "dep_delay": 15, "sched_arr_time": 230, "arr_time": 300}
    row = curate(flight).rows.to_dicts()[0]
    assert row["actual_departure"] == moment("2013-06-02T04:00")


def test_a_cancellation_is_known_once_its_departure_time_has_passed() -> None:
    row = curate(CANCELLED).rows.to_dicts()[0]
    assert row["outcome"] == "cancelled"
    assert row["departure_known_at"] == row["arrival_known_at"] == moment("2013-06-01T14:00")


def test_a_diversion_is_known_once_its_arrival_time_has_passed() -> None:
    row = curate({"arr_delay": None, "arr_time": None, "air_time": None}).rows.to_dicts()[0]
    assert (row["outcome"], row["arrival_known_at"]) == ("diverted", moment("2013-06-01T20:00"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dest": "XXX"}, "not a known airport"),
        ({"carrier": None}, "a required value is missing"),
        ({"event_day": date(2013, 3, 10), "sched_dep_time": 230}, "does not exist on that day"),
        ({"dep_delay": None}, "departed without a delay"),
        ({"dep_time": 1011}, "departure time contradicts"),
        ({"arr_time": 1331}, "arrival time contradicts"),
        ({"air_time": 1000}, "longer than from gate to gate"),
    ],
)
def test_a_row_that_contradicts_itself_is_quarantined_with_the_reason(change: dict[str, Any], reason: str) -> None:
    curated = curate(change, {"flight": 2})
    assert curated.rows["flight"].to_list() == [2]
    row = curated.quarantined.to_dicts()[0]
    assert reason in row["quarantine_reason"]
    assert '"flight":1' in row["original"]


def test_the_same_flight_twice_is_quarantined_both_times() -> None:
    curated = curate({}, {}, {"flight": 2})
    assert curated.quarantined["quarantine_reason"].to_list() == ["the same flight twice"] * 2
