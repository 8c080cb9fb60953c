"""What registering the declared features does to the registry and the online store over time."""

import sqlite3
from contextlib import closing
from pathlib import Path

from online_support import GROUPS, HOUR, NOON, PRICE, STATE, STOPS, OnlineStoreUnderTest, car, frame
from servers import RedisServer

from configs.features import LatestFeatures
from configs.load import Project
from feature_repo.online_writing import push_values, replace_values
from feature_repo.store import materialize_group, register_features


def write_nothing(online: OnlineStoreUnderTest) -> None:
    for group in online.groups:
        online.write_lake(group, frame(group))


def test_a_group_that_is_no_longer_declared_leaves_the_registry_and_the_online_store(
    online: OnlineStoreUnderTest,
) -> None:
    write_nothing(online)
    register_features(online.environment, online.project)
    push_values(online.writer, STATE, car("A1", NOON, 7))
    push_values(online.writer, STOPS, frame(STOPS, ["A1", NOON, 2, 1.5, 3, 2.5]))
    push_values(online.writer, PRICE, frame(PRICE, ["Rom", -2, NOON, 1.5]))
    online.groups = (STATE,)
    store = register_features(online.environment, online.project)
    assert [view.name for view in store.list_feature_views()] == ["car_state"]
    assert [entity.name for entity in store.list_entities()] == ["plate"]
    assert online.reader(STATE).read({"plate": ["A1"]}, NOON).values["kilometres"] == [7]
    if online.address["kind"] == "sqlite":
        with closing(sqlite3.connect(online.address["path"])) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert tables == [("mlway_car_state",)]
    online.groups = GROUPS
    register_features(online.environment, online.project)
    read = online.reader(STOPS, PRICE).read({"plate": ["A1"], "town": ["Rom"], "number": [-2]}, NOON)
    assert read.missing == [["car_stops", "trip_price"]]


def test_a_materialization_of_no_time_at_all_is_not_noted(online: OnlineStoreUnderTest) -> None:
    write_nothing(online)
    store = register_features(online.environment, online.project)
    materialize_group(store, STATE, NOON, since=NOON)
    assert store.get_feature_view("car_state").materialization_intervals == []
    materialize_group(store, STATE, NOON + HOUR, since=NOON)
    assert len(store.get_feature_view("car_state").materialization_intervals) == 1


def test_a_view_in_redis_may_have_thousands_of_features(redis_server: RedisServer, tmp_path: Path) -> None:
    redis_server.flush()
    online = OnlineStoreUnderTest(tmp_path, {"kind": "redis", "host": "127.0.0.1", "port": redis_server.port})
    count = 5_000
    features = {f"f{number}": {"expression": "x", "type": "int64"} for number in range(count)}
    wide = LatestFeatures.model_validate(STATE.model_dump() | {"features": features})
    values = frame(wide, ["A1", NOON, *range(count)])
    replace_values(online.writer, wide, values, NOON, prune=False)
    read = online.reader(wide).read({"plate": ["A1"]}, NOON)
    assert [column[0] for column in read.values.values()] == list(range(count))
    assert replace_values(online.writer, wide, values.clear(), NOON, prune=True) == (0, 1)
    assert online.reader(wide).read({"plate": ["A1"]}, NOON).missing == [["car_state"]]


def test_the_folder_of_the_registry_is_made_whatever_the_online_store(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    online = OnlineStoreUnderTest(tmp_path, {"kind": "redis", "host": "127.0.0.1", "port": redis_server.port})
    addresses = online.environment.feature_store.model_copy(update={"registry": f"sqlite:///{tmp_path}/new/feast.db"})
    register_features(online.environment.model_copy(update={"feature_store": addresses}), Project({}, {}, {}))
    assert (tmp_path / "new" / "feast.db").is_file()
