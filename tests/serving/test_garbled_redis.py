"""Reading a Redis that holds, or a server that says, what nobody of ours wrote."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from online_support import NOON, STATE, OnlineStoreUnderTest, frame
from servers import RedisServer

from feature_repo.online_layout import EntityKeys, redis_key, redis_timestamp_field
from feature_repo.online_writing import push_values
from serving.online_features import OnlineFeatures, OnlineStoreError, OnlineStoreUnavailableError

TIMESTAMP = redis_timestamp_field("car_state")


@pytest.fixture(params=[1, 3], ids=["one car", "three cars"])
def plates(request: pytest.FixtureRequest) -> list[str]:
    """The cars whose state is read: the first one's is garbled."""
    return ["A1", "B2", "C3"][: request.param]


@pytest.fixture
def reader(redis_server: RedisServer, tmp_path: Path, plates: list[str]) -> OnlineFeatures:
    """A reader of a store that holds every car's state."""
    redis_server.flush()
    online = OnlineStoreUnderTest(tmp_path, {"kind": "redis", "host": "127.0.0.1", "port": redis_server.port})
    push_values(online.writer, STATE, frame(STATE, *([plate, NOON, 0.5, 7, "Ann", True] for plate in plates)))
    return online.reader(STATE)


@pytest.fixture
def garble(redis_server: RedisServer, reader: OnlineFeatures) -> Callable[[Callable[[bytes], bytes]], None]:
    """Changes what stands at the first car's moment."""

    def change(changed: Callable[[bytes], bytes]) -> None:
        [key] = EntityKeys(STATE.join_keys).encode({"plate": ["A1"]})
        assert key is not None
        with redis.Redis(port=redis_server.port) as client:
            client.hset(redis_key(key), TIMESTAMP, changed(client.hget(redis_key(key), TIMESTAMP)))

    return change


@pytest.mark.parametrize(
    "change", [lambda message: message[-53:], lambda message: message.replace(b"Ann", b"\xff\xfe!")]
)
def test_bytes_that_are_no_value_are_an_error_that_says_what_to_do(
    reader: OnlineFeatures,
    garble: Callable[[Callable[[bytes], bytes]], None],
    plates: list[str],
    change: Callable[[bytes], bytes],
) -> None:
    garble(change)
    with pytest.raises(OnlineStoreError, match="mlway materialize"):
        reader.read({"plate": plates}, NOON)
    others = plates[1:]
    if others:
        assert reader.read({"plate": others}, NOON).values["kilometres"] == [7] * len(others)


def test_a_moment_that_another_writer_left_has_no_values_of_ours(
    reader: OnlineFeatures, garble: Callable[[Callable[[bytes], bytes]], None], plates: list[str]
) -> None:
    garble(lambda _: b"\x08\x81\x01")
    read = reader.read({"plate": plates}, NOON)
    assert read.values["kilometres"] == [None, 7, 7][: len(plates)]
    assert read.missing == [["car_state"], [], []][: len(plates)]


def test_a_server_that_is_no_redis_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = {"kind": "redis", "host": "127.0.0.1", "port": listener.getsockname()[1]}
        reader = OnlineStoreUnderTest(tmp_path, address).reader(STATE)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100_000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        server = threading.Thread(target=answer)
        server.start()
        with pytest.raises(OnlineStoreError, match="look whether it is the server of the environment"):
            reader.read({"plate": ["A1"]}, NOON)
        server.join()


def test_a_server_that_is_still_loading_is_unavailable_for_now_and_asked_as_often_as_declared(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        address = {"kind": "redis", "host": "127.0.0.1", "port": port, "database": 1, "attempts": 2}
        reader = OnlineStoreUnderTest(tmp_path, address).reader(STATE)
        asked = []

        def answer() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(1_000))
                    connection.sendall(b"-LOADING Redis is loading the dataset in memory\r\n")

        server = threading.Thread(target=answer)
        server.start()
        with pytest.raises(OnlineStoreUnavailableError, match="tried 2 times: LOADING"):
            reader.read({"plate": ["A1"]}, NOON)
        server.join()
        assert [b"SELECT" in command for command in asked] == [True, True]
