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
from serving.online_features import OnlineStoreError

TIMESTAMP = redis_timestamp_field("car_state")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "garble", [lambda message: message[-53:], lambda message: message.replace(b"Ann", b"\xff\xfe!")]
)
def test_bytes_that_are_no_value_are_an_error_that_says_what_to_do(
    redis_server: RedisServer, tmp_path: Path, garble: Callable[[bytes], bytes], count: int
) -> None:
    redis_server.flush()
    online = OnlineStoreUnderTest(tmp_path, {"kind": "redis", "host": "127.0.0.1", "port": redis_server.port})
    plates = ["A1", "B2", "C3"][:count]
    push_values(online.writer, STATE, frame(STATE, *([plate, NOON, 0.5, 7, "Ann", True] for plate in plates)))
    [key] = EntityKeys(STATE.join_keys).encode({"plate": ["A1"]})
    assert key is not None
    with redis.Redis(port=redis_server.port) as client:
        message = client.hget(redis_key(key), TIMESTAMP)
        client.hset(redis_key(key), TIMESTAMP, garble(message))
    reader = online.reader(STATE)
    with pytest.raises(OnlineStoreError, match="mlway materialize"):
        reader.read({"plate": plates}, NOON)
    if count > 1:
        assert reader.read({"plate": plates[1:]}, NOON).values["kilometres"] == [7, 7]


@pytest.mark.parametrize("count", [1, 3])
def test_a_moment_that_another_writer_left_has_no_values_of_ours(
    redis_server: RedisServer, tmp_path: Path, count: int
) -> None:
    redis_server.flush()
    online = OnlineStoreUnderTest(tmp_path, {"kind": "redis", "host": "127.0.0.1", "port": redis_server.port})
    plates = ["A1", "B2", "C3"][:count]
    push_values(online.writer, STATE, frame(STATE, *([plate, NOON, 0.5, 7, "Ann", True] for plate in plates)))
    [key] = EntityKeys(STATE.join_keys).encode({"plate": ["A1"]})
    assert key is not None
    with redis.Redis(port=redis_server.port) as client:
        client.hset(redis_key(key), TIMESTAMP, b"\x08\x81\x01")
    read = online.reader(STATE).read({"plate": plates}, NOON)
    assert read.values["kilometres"] == [None, 7, 7][:count]
    assert read.missing == [["car_state"], [], []][:count]


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
