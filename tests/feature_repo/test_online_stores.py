"""What every online store promises to those who write it: the newest value stays, no entity is ever half written."""

import itertools
import random
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from online_support import (
    GROUPS,
    MICROSECOND,
    NOON,
    PLACE,
    PRICE,
    STATE,
    STOPS,
    OnlineStoreUnderTest,
    car,
    frame,
    start_python,
)
from servers import RedisServer, free_port

from configs.features import LatestFeatures
from feature_repo.online_layout import OnlineStoreError, OnlineStoreUnavailableError
from feature_repo.online_writing import push_values
from feature_repo.store import Materialized, materialize_group, register_features

SECOND = timedelta(seconds=1)
FULL = frame(STATE, ["A1", NOON, 0.5, 7, "Ann", True])
NUMBERS = itertools.count()
LATER = NOON + timedelta(hours=1)


def read(online: OnlineStoreUnderTest, as_of: datetime, plates: list[str], name: str = "kilometres") -> list[Any]:
    return online.reader(STATE).read({"plate": plates}, as_of).values[name]


PUSHES = st.lists(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(-3, 3), st.one_of(st.none(), st.integers(-9, 9))), max_size=4
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=PUSHES)
def test_pushes_in_any_order_and_batching_end_at_the_newest_value(
    online: OnlineStoreUnderTest, batches: list[list[tuple[str, int, int | None]]]
) -> None:
    prefix = str(next(NUMBERS))  # examples share the store
    newest: dict[str, tuple[int, int | None]] = {}
    for batch in batches:
        rows = [[prefix + plate, NOON + at * MICROSECOND, None, value, None, None] for plate, at, value in batch]
        push_values(online.writer, STATE, frame(STATE, *rows))
        for plate, at, value in batch:
            if plate not in newest or at >= newest[plate][0]:
                newest[plate] = (at, value)
    found = online.reader(STATE).read({"plate": [prefix + plate for plate in "ab"]}, NOON + SECOND)
    assert found.values["kilometres"] == [newest.get(plate, (0, None))[1] for plate in "ab"]
    ages = [1 - newest[plate][0] / 1e6 if plate in newest else None for plate in "ab"]
    assert found.ages["car_state"] == pytest.approx(ages, abs=1e-9)


def test_a_push_says_how_many_rows_it_stored(online: OnlineStoreUnderTest) -> None:
    rows = pl.concat([car("A1", NOON, 1), car("B2", NOON, 1)])
    assert push_values(online.writer, STATE, rows) == 2
    assert push_values(online.writer, STATE, rows) == 2
    assert push_values(online.writer, STATE, rows.with_columns(pl.col("event_timestamp") - MICROSECOND)) == 0


PUSHER = """
import random
moments = list(range(300))
random.Random(sys.argv[3]).shuffle(moments)
print("ready", flush=True)
sys.stdin.readline()
for at in moments:
    values = ["A1", NOON + at * MICROSECOND, float(at), at, str(at), None]
    push_values(online.writer, STATE, frame(STATE, values))
"""


def test_pushers_in_several_processes_leave_the_newest_value(online: OnlineStoreUnderTest) -> None:
    assert online.writer
    pushers = [start_python(PUSHER, online, seed) for seed in "abc"]
    for pusher in pushers:
        assert pusher.stdout.readline() == "ready\n"
    for pusher in pushers:
        pusher.communicate("go\n", timeout=120)
    assert [pusher.returncode for pusher in pushers] == [0, 0, 0]
    found = online.reader(STATE).read({"plate": ["A1"]}, NOON + SECOND).values
    assert (found["kilometres"], found["fuel"], found["driver"]) == ([299], [299.0], ["299"])


WRITER = """
for number in range(10**6):
    rows = [[f"P{car}", NOON, float(number), number, str(number), None] for car in range(3_000)]
    push_values(online.writer, STATE, frame(STATE, *rows))
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_half_way_leaves_every_entity_whole(online: OnlineStoreUnderTest) -> None:
    reader, dice = online.reader(STATE), random.Random(20130701)
    asked = {"plate": [f"P{car}" for car in range(3_000)]}

    def assert_whole() -> None:
        found = reader.read(asked, NOON).values
        rows = set(zip(found["fuel"], found["kilometres"], found["driver"], strict=True))
        assert {(float(number), number, str(number)) for _, number, _ in rows} == rows

    for _ in range(3):
        with start_python(WRITER, online) as writer:
            try:
                assert writer.stdout.readline() == "0\n"
                for _ in range(5):  # others read meanwhile
                    assert_whole()
                # The random moment itself is what is waited for, not a condition.
                with pytest.raises(subprocess.TimeoutExpired):
                    writer.wait(dice.uniform(0, 0.1))
            finally:
                writer.kill()
        assert_whole()


def test_the_feast_sdk_reads_what_we_write_and_agrees(online: OnlineStoreUnderTest) -> None:
    values = fill(online)
    store = register_features(online.environment, online.project)
    for group in GROUPS:
        materialize_group(store, group, LATER)
    cars = {"plate": ["A1", "B2", "none"]}
    trips = {"town": ["Köln", "Rom", "none"], "number": [1, -2, 3]}
    ours = online.reader().read(cars | trips, LATER - timedelta(minutes=59, seconds=59))
    for group in GROUPS:
        entities = cars if "plate" in group.join_keys else trips
        asked = [f"{group.name}:{name}" for name in group.types]
        sdk = store.get_online_features(features=asked, entity_rows=entities).to_dict()
        assert {name: ours.values[name] for name in group.types} == {name: sdk[name] for name in group.types}
    assert ours.missing[2] == [group.name for group in GROUPS]
    assert values[STATE.name]["fuel"].to_list() == ours.values["fuel"][:2]


def test_feast_sees_the_moment_of_a_value_to_the_microsecond(online: OnlineStoreUnderTest) -> None:
    fill(online)
    store = register_features(online.environment, online.project)
    materialize_group(store, STATE, LATER)
    response = store.get_online_features(features=["car_state:fuel"], entity_rows=[{"plate": "A1"}])
    stamps = [result.event_timestamps[0].ToMicroseconds() for result in response.proto.results]
    assert NOON + timedelta(microseconds=123_457) in [
        datetime.fromtimestamp(0, UTC) + us * MICROSECOND for us in stamps
    ]


def test_a_feature_that_changes_its_type_is_null_until_it_is_written(online: OnlineStoreUnderTest) -> None:
    push_values(online.writer, STATE, FULL)
    features = STATE.model_dump()["features"] | {"fuel": {"expression": "fuel", "type": "string"}}
    changed = LatestFeatures.model_validate(STATE.model_dump() | {"features": features})
    online.writer.prepare(online.view(changed))
    push_values(online.writer, changed, frame(changed, ["A1", NOON, "much", 7, "Ann", True]))
    assert online.reader(changed).read({"plate": ["A1"]}, NOON).values["fuel"] == ["much"]


def fill(online: OnlineStoreUnderTest) -> dict[str, pl.DataFrame]:
    """Values of every group in the lake, with nulls."""
    odd = NOON + timedelta(microseconds=123_457)
    values = {
        STATE.name: frame(STATE, ["A1", odd, 0.1, -7, "Zoë", True], ["B2", odd, None, None, None, None]),
        STOPS.name: frame(STOPS, ["A1", odd, 2, 1.5, 3, 2.5], ["B2", odd, 0, None, 1, 0.25]),
        PLACE.name: frame(PLACE, ["Köln", 1, datetime(1970, 1, 1, tzinfo=NOON.tzinfo), 2**40]),
        PRICE.name: frame(PRICE, ["Köln", 1, odd, -0.0], ["Rom", -2, odd, 1e300]),
    }
    for group in GROUPS:
        online.write_lake(group, values[group.name])
    return values


def test_feasts_own_writes_never_move_a_value_back_in_time(online: OnlineStoreUnderTest) -> None:
    fill(online)
    store = register_features(online.environment, online.project)
    push_values(online.writer, STATE, car("A1", LATER, 1))
    row = {"plate": "A1", "fuel": 9.0, "kilometres": 9, "driver": "x", "is_open": True}
    for moment, wanted in ((NOON, 1), (LATER + MICROSECOND, 9)):
        store.write_to_online_store(STATE.name, pd.DataFrame([row | {"event_timestamp": moment}]))
        assert read(online, LATER + SECOND, ["A1"]) == [wanted]
    store.materialize(NOON - SECOND, LATER, feature_views=[STATE.name])
    assert read(online, LATER + SECOND, ["A1", "B2"]) == [9, None]


def test_a_full_materialization_is_idempotent_and_noted_in_the_registry(online: OnlineStoreUnderTest) -> None:
    fill(online)
    store = register_features(online.environment, online.project)
    assert materialize_group(store, STATE, LATER) == Materialized(2, 0)
    first = online.reader().read(ASKED, LATER)
    assert materialize_group(store, STATE, LATER) == Materialized(2, 0)
    assert online.reader().read(ASKED, LATER) == first
    interval = store.get_feature_view(STATE.name).materialization_intervals[-1]
    assert interval == (LATER - STATE.time_to_live, LATER)


ASKED = {"plate": ["A1", "B2"], "town": ["Köln", "Rom"], "number": [1, -2]}


def test_a_value_past_its_ttl_is_left_out_to_the_microsecond(online: OnlineStoreUnderTest) -> None:
    fill(online)
    store = register_features(online.environment, online.project)
    edge = NOON + timedelta(microseconds=123_457) + STATE.time_to_live
    assert materialize_group(store, STATE, edge) == Materialized(2, 0)
    assert materialize_group(store, STATE, edge + MICROSECOND) == Materialized(0, 2)


def test_an_incremental_materialization_reads_only_what_is_after_the_last(online: OnlineStoreUnderTest) -> None:
    online.write_lake(STATE, pl.concat([car("A1", NOON, 1), car("B2", NOON + MICROSECOND, 2), car("C3", LATER, 3)]))
    for group in (STOPS, PLACE, PRICE):
        online.write_lake(group, frame(group))
    store = register_features(online.environment, online.project)
    assert materialize_group(store, STATE, NOON + SECOND, since=NOON) == Materialized(1, 0)
    assert read(online, LATER, ["A1", "B2", "C3"]) == [None, 2, None]
    assert materialize_group(store, STATE, LATER, since=NOON + SECOND) == Materialized(1, 0)
    assert read(online, LATER, ["A1", "B2", "C3"]) == [None, 2, 3]


def test_a_full_materialization_follows_corrections_and_spares_newer_pushes(online: OnlineStoreUnderTest) -> None:
    online.write_lake(STATE, pl.concat([car(plate, LATER, 1) for plate in ("A1", "B2", "C3", "D4")]))
    for group in (STOPS, PLACE, PRICE):
        online.write_lake(group, frame(group))
    store = register_features(online.environment, online.project)
    materialize_group(store, STATE, LATER)
    push_values(online.writer, STATE, pl.concat([car("C3", LATER + SECOND, 5), car("E5", NOON, 6)]))
    # The rows of noon were wrong after all: A1's newest is older now, B2 has none, and so does C3 but for the push.
    online.write_lake(STATE, pl.concat([car("A1", NOON, 2), car("D4", LATER, 3)]))
    assert materialize_group(store, STATE, LATER + SECOND) == Materialized(2, 1)
    assert read(online, LATER + SECOND, ["A1", "B2", "C3", "D4", "E5"]) == [2, None, 5, 3, 6]


def test_a_changed_definition_replaces_every_value_of_the_old_one(online: OnlineStoreUnderTest) -> None:
    push_values(online.writer, STATE, pl.concat([car("A1", LATER, 1), car("B2", LATER, 1)]))
    twice = {"fuel_twice": {"expression": "fuel * 2", "type": "float64"}}
    changed = LatestFeatures.model_validate(STATE.model_dump() | {"features": STATE.model_dump()["features"] | twice})
    online.groups = (changed, STOPS, PLACE, PRICE)
    online.write_lake(changed, frame(changed, ["A1", NOON, 0.5, 7, "Ann", True, 1.0]))
    for group in (STOPS, PLACE, PRICE):
        online.write_lake(group, frame(group))
    store = register_features(online.environment, online.project)
    assert materialize_group(store, changed, LATER) == Materialized(1, 1)
    found = online.reader(changed).read({"plate": ["A1", "B2"]}, LATER).values
    assert (found["fuel_twice"], found["kilometres"]) == ([1.0, None], [7, None])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (FULL.drop("driver", "plate"), "lack plate, driver"),
        (FULL.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)), "need a UTC"),
        (FULL.with_columns(event_timestamp=pl.lit(None, pl.Datetime("us", "UTC"))), "with 1 nulls"),
    ],
)
def test_values_that_cannot_be_stored_are_refused(
    online: OnlineStoreUnderTest, values: pl.DataFrame, message: str
) -> None:
    with pytest.raises(OnlineStoreError, match=message):
        push_values(online.writer, STATE, values)


def test_rows_without_a_key_are_left_out_and_none_are_fine(online: OnlineStoreUnderTest) -> None:
    rows = pl.concat([FULL.with_columns(plate=pl.lit(None, pl.String)), FULL])
    assert push_values(online.writer, STATE, rows) == 1
    assert push_values(online.writer, STATE, FULL.clear()) == 0


def test_a_redis_that_is_not_there_is_an_error_for_writers_too(tmp_path: Any) -> None:
    address = {"kind": "redis", "host": "127.0.0.1", "port": free_port()}
    with pytest.raises(OnlineStoreUnavailableError, match="cannot be written"):
        push_values(OnlineStoreUnderTest(tmp_path, address).writer, STATE, FULL)


def test_a_redis_that_takes_no_writes_says_so(tmp_path: Any) -> None:
    server = RedisServer(tmp_path, "--maxmemory", "1")
    try:
        online = OnlineStoreUnderTest(tmp_path, {"kind": "redis", "host": "127.0.0.1", "port": server.port})
        with pytest.raises(OnlineStoreError, match="refuses a write"):
            push_values(online.writer, STATE, FULL)
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("kilometres", pl.Series([1.9])),
        ("kilometres", pl.Series(["7"])),
        ("kilometres", pl.Series([2**64 - 1], dtype=pl.UInt64)),
        ("fuel", pl.Series([2**53 + 1])),
        ("driver", pl.Series([1])),
        ("is_open", pl.Series([2])),
        ("plate", pl.Series([5])),
    ],
)
def test_a_value_that_its_declared_type_cannot_hold_is_refused(
    online: OnlineStoreUnderTest, name: str, given: pl.Series
) -> None:
    with pytest.raises(OnlineStoreError, match=rf"car_state\.{name} is declared .*\nHint: convert the column"):
        push_values(online.writer, STATE, FULL.with_columns(given.alias(name)))


@pytest.mark.parametrize("given", [pl.Series([7.0]), pl.Series([7], dtype=pl.UInt8), pl.Series([7], dtype=pl.Int32)])
def test_a_value_that_its_declared_type_holds_as_well_is_stored(online: OnlineStoreUnderTest, given: pl.Series) -> None:
    more = {"fuel": pl.Series([0.5], dtype=pl.Float32), "driver": pl.Series([None], dtype=pl.Null)}
    push_values(online.writer, STATE, FULL.with_columns(given.alias("kilometres"), **more))
    found = online.reader(STATE).read({"plate": ["A1"]}, NOON).values
    assert (found["kilometres"], found["fuel"], found["driver"]) == ([7], [0.5], [None])
