"""Which of two writes stays in an online store, and who sees what another definition wrote."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from online_support import HOUR, NOON, PLACE, PRICE, STATE, STOPS, OnlineStoreUnderTest, car, frame
from servers import RedisServer

from configs.features import LatestFeatures
from feature_repo.online_writing import push_values, replace_values
from feature_repo.store import register_features

ONE, TWO, THREE = NOON + HOUR, NOON + 2 * HOUR, NOON + 3 * HOUR


def with_features(**features: str) -> LatestFeatures:
    """STATE with other features: name to type."""
    declared = {name: {"expression": name, "type": kind} for name, kind in features.items()}
    return LatestFeatures.model_validate(STATE.model_dump() | {"features": declared})


def kilometres(online: OnlineStoreUnderTest, plate: str = "A1") -> Any:
    return online.reader(STATE).read({"plate": [plate]}, THREE).values["kilometres"][0]


@pytest.mark.parametrize(("newer", "older"), [(NOON, NOON), (NOON, ONE)])
def test_a_materialization_that_comes_late_replaces_nothing_of_a_later_one(
    online: OnlineStoreUnderTest, newer: datetime, older: datetime
) -> None:
    replace_values(online.writer, STATE, car("A1", newer, 2), THREE, prune=False)
    assert replace_values(online.writer, STATE, car("A1", older, 1), TWO, prune=False) == (0, 0)
    assert kilometres(online) == 2
    assert replace_values(online.writer, STATE, car("A1", NOON - HOUR, 3), THREE, prune=False) == (1, 0)
    assert kilometres(online) == 3


def test_a_push_and_a_materialization_are_ordered_by_their_values_moments(online: OnlineStoreUnderTest) -> None:
    push_values(online.writer, STATE, car("A1", ONE, 1))
    replace_values(online.writer, STATE, car("A1", NOON, 2), TWO, prune=False)
    assert kilometres(online) == 1
    replace_values(online.writer, STATE, car("A1", ONE, 3), TWO, prune=False)
    assert kilometres(online) == 3
    push_values(online.writer, STATE, car("A1", NOON, 4))
    assert kilometres(online) == 3
    push_values(online.writer, STATE, car("A1", ONE, 5))
    assert kilometres(online) == 5


@pytest.mark.parametrize("count", [1, 100])
def test_what_another_definition_wrote_is_missing_and_never_mixed_or_mistaken(
    online: OnlineStoreUnderTest, count: int
) -> None:
    plates = [f"P{number}" for number in range(count)]
    asked = {"plate": ["none", *plates]}
    changed = with_features(fuel="string", kilometres="int64")
    for group in (STATE, changed):
        online.writer.prepare(online.view(group))
    push_values(online.writer, STATE, frame(STATE, *([plate, NOON, 0.5, 7, "Ann", True] for plate in plates)))
    new, old = online.reader(changed), online.reader(STATE)
    assert new.read(asked, ONE).missing == [["car_state"]] * (count + 1)
    assert old.read(asked, ONE).missing == [["car_state"], *[[]] * count]
    push_values(online.writer, changed, frame(changed, [plates[0], NOON, "much", 8]))
    read = new.read(asked, ONE)
    assert read.values["fuel"] == [None, "much"] + [None] * (count - 1)
    assert read.values["kilometres"] == [None, 8] + [None] * (count - 1)
    read = old.read(asked, ONE)
    assert read.values["driver"] == [None, None] + ["Ann"] * (count - 1)
    assert read.missing == [["car_state"], ["car_state"], *[[]] * (count - 1)]


def test_the_feast_sdk_reads_redis_in_coroutines_too(redis_server: RedisServer, tmp_path: Path) -> None:
    redis_server.flush()
    online = OnlineStoreUnderTest(tmp_path, {"kind": "redis", "host": "127.0.0.1", "port": redis_server.port})
    for group in (STATE, STOPS, PLACE, PRICE):
        online.write_lake(group, frame(group))
    store = register_features(online.environment, online.project)
    push_values(online.writer, STATE, car("A1", NOON, 2))
    asked = store.get_online_features_async(features=["car_state:kilometres"], entity_rows=[{"plate": "A1"}])
    assert asyncio.run(asked).to_dict()["kilometres"] == [2]
