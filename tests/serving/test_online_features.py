"""Reading the online store: what is there as of a moment, what is missing, and what happens when the store is gone."""

import ipaddress
import math
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from online_support import (
    GROUPS,
    HOUR,
    MICROSECOND,
    NOON,
    PLACE,
    PRICE,
    STATE,
    STOPS,
    OnlineStoreUnderTest,
    frame,
    start_python,
)
from servers import RedisServer, free_port

from configs.environments import RedisOnlineStore
from configs.secrets import MissingSecretError
from feature_repo.online_writing import push_values
from serving.online_features import OnlineStoreError, OnlineStoreUnavailableError, join_key_columns, with_features
from serving.online_redis import RedisOnlineFeatures
from serving.online_sqlite import SqliteOnlineFeatures

ODD = NOON + timedelta(microseconds=123_457)
ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def filled(online: OnlineStoreUnderTest) -> OnlineStoreUnderTest:
    """A store with values of one moment that is no whole second."""
    push_values(
        online.writer, STATE, frame(STATE, ["A1", ODD, 0.5, 7, "Zoë", True], ["B2", ODD, None, None, None, None])
    )
    push_values(online.writer, STOPS, frame(STOPS, ["A1", ODD, 2, 1.5, 3, 2.5]))
    push_values(online.writer, PLACE, frame(PLACE, ["Rom", -2, ALWAYS, 2**40]))
    push_values(online.writer, PRICE, frame(PRICE, ["Rom", -2, ODD, -0.0]))
    return online


def test_rows_may_repeat_lack_and_not_know_their_entities(filled: OnlineStoreUnderTest) -> None:
    asked = {
        "plate": ["A1", "B2", "A1", None, "none"],
        "town": ["Rom", "Rom", None, "Rom", "none"],
        "number": [-2, 7, -2, -2, 0],
    }
    read = filled.reader().read(asked, ODD + HOUR / 2)
    assert read.values == {
        "fuel": [0.5, None, 0.5, None, None],
        "kilometres": [7, None, 7, None, None],
        "driver": ["Zoë", None, "Zoë", None, None],
        "is_open": [True, None, True, None, None],
        "stops_1h": [2, None, 2, None, None],
        "stop_minutes_1h": [1.5, None, 1.5, None, None],
        "stops_3h": [3, None, 3, None, None],
        "stop_minutes_3h": [2.5, None, 2.5, None, None],
        "length": [2**40, None, None, 2**40, None],
        "price": [-0.0, None, None, -0.0, None],
    }
    assert read.ages["car_state"] == [1800.0, 1800.0, 1800.0, None, None]
    assert read.ages["trip_place"][0] == (ODD + HOUR / 2 - ALWAYS).total_seconds()
    everything = ["car_state", "car_stops", "trip_place", "trip_price"]
    assert read.missing == [[], everything[1:], everything[2:], everything[:2], everything]


@pytest.mark.parametrize(
    "age", [-MICROSECOND, timedelta(0), HOUR / 2, HOUR, 3 * HOUR, 6 * HOUR, 6 * HOUR + MICROSECOND]
)
@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_a_few_rows_get_what_they_get_among_many(filled: OnlineStoreUnderTest, age: timedelta, count: int) -> None:
    rows = {"plate": ["A1", "none", None, "A1"], "town": ["Rom", "Rom", None, "x"], "number": [-2, 5, 1, None]}
    rows = {name: values * 6 for name, values in rows.items()}
    reader = filled.reader()
    together = reader.read(rows, ODD + age)
    for start in range(len(rows["plate"]) - count):
        few = slice(start, start + count)
        read = reader.read({name: values[few] for name, values in rows.items()}, ODD + age)
        assert list(read.values.items()) == [(name, column[few]) for name, column in together.values.items()]
        assert list(read.ages.items()) == [(view, ages[few]) for view, ages in together.ages.items()]
        assert read.missing == together.missing[few]


def test_no_rows_give_no_values(filled: OnlineStoreUnderTest) -> None:
    read = filled.reader().read({"plate": [], "town": [], "number": []}, NOON)
    assert set(map(len, read.values.values())) == {0}
    assert read.missing == []


def test_many_rows_come_back_in_order(online: OnlineStoreUnderTest) -> None:
    count = 1_700
    push_values(online.writer, STATE, frame(STATE, *([f"P{n}", NOON, float(n), n, str(n), True] for n in range(count))))
    read = online.reader(STATE).read({"plate": [f"P{n}" for n in reversed(range(count))]}, NOON)
    assert read.values["kilometres"] == list(reversed(range(count)))
    assert read.values["fuel"] == [float(n) for n in reversed(range(count))]
    assert read.values["driver"] == [str(n) for n in reversed(range(count))]


@pytest.mark.parametrize(
    ("age", "is_alive"),
    [(-MICROSECOND, False), (timedelta(0), True), (6 * HOUR, True), (6 * HOUR + MICROSECOND, False)],
)
def test_a_value_lives_from_its_moment_to_its_ttl_to_the_microsecond(
    filled: OnlineStoreUnderTest, age: timedelta, is_alive: bool
) -> None:
    read = filled.reader(STATE).read({"plate": ["A1"]}, ODD + age)
    assert read.values["kilometres"] == [7 if is_alive else None]
    assert read.ages["car_state"] == [age.total_seconds() if is_alive else None]
    assert read.missing == [[] if is_alive else ["car_state"]]


@pytest.mark.parametrize(
    ("age", "values", "missing"),
    [
        (HOUR - MICROSECOND, [2, 1.5, 3, 2.5], []),
        (HOUR, [0, None, 3, 2.5], []),
        (3 * HOUR - MICROSECOND, [0, None, 3, 2.5], []),
        (3 * HOUR, [0, None, 0, None], []),
        (3 * HOUR + MICROSECOND, [None, None, None, None], ["car_stops"]),
    ],
)
def test_a_window_is_empty_once_it_starts_where_the_value_is(
    filled: OnlineStoreUnderTest, age: timedelta, values: list[float | None], missing: list[str]
) -> None:
    read = filled.reader(STOPS).read({"plate": ["A1"]}, ODD + age)
    assert [read.values[name][0] for name in STOPS.types] == values
    assert read.missing == [missing]


def test_static_values_live_for_ever(filled: OnlineStoreUnderTest) -> None:
    read = filled.reader(PLACE).read({"town": ["Rom"], "number": [-2]}, NOON + timedelta(days=20_000))
    assert read.values["length"] == [2**40]


def test_a_frame_of_the_features_has_their_declared_types(filled: OnlineStoreUnderTest) -> None:
    rows = pl.DataFrame({"plate": ["x"], "town": ["x"], "number": [1], "more": [1.0]})
    read = filled.reader().read(join_key_columns(rows, GROUPS), NOON)
    result = with_features(rows, GROUPS, read)
    assert result.columns == [*rows.columns, *(name for group in GROUPS for name in group.types)]
    assert result.schema["fuel"] == pl.Float64
    assert result.schema["is_open"] == pl.Boolean


def test_the_sign_of_a_zero_and_the_null_of_a_nan_are_kept(online: OnlineStoreUnderTest) -> None:
    rows = [["Rom", number, NOON, value] for number, value in enumerate([-0.0, 0.0, math.nan, math.inf, 5e-324])]
    push_values(online.writer, PRICE, frame(PRICE, *rows))
    read = online.reader(PRICE).read({"town": ["Rom"] * 5, "number": list(range(5))}, NOON)
    assert list(map(str, read.values["price"])) == ["-0.0", "0.0", "None", "inf", "5e-324"]


@pytest.mark.parametrize("plate", ["\ud800", ["a"]])
def test_a_join_key_that_cannot_be_looked_up_is_an_error(filled: OnlineStoreUnderTest, plate: object) -> None:
    with pytest.raises(OnlineStoreError):
        filled.reader(STATE).read({"plate": [plate]}, NOON)


def test_threads_share_a_reader(filled: OnlineStoreUnderTest) -> None:
    reader, different = filled.reader(), []
    asked = {"plate": ["A1", "B2"] * 20, "town": ["Rom", "x"] * 20, "number": [-2] * 40}
    wanted = reader.read(asked, ODD)

    def work() -> None:
        different.extend(read for read in (reader.read(asked, ODD) for _ in range(50)) if read != wanted)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not different


def test_a_store_that_is_not_there_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(OnlineStoreError, match="mlway materialize"):
        SqliteOnlineFeatures("/nowhere/online.db", [STATE]).read({"plate": ["A1"]}, NOON)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may kill."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def address(server: RedisServer | None, **more: object) -> dict[str, object]:
    port = server.port if server else free_port()
    return {"kind": "redis", "host": "127.0.0.1", "port": port} | more


def test_a_redis_that_dies_is_an_error_in_bounded_time_and_one_that_is_back_is_read_again(
    own_server: RedisServer, tmp_path: Path
) -> None:
    online = OnlineStoreUnderTest(tmp_path, address(own_server))
    reader, row = online.reader(STATE), frame(STATE, ["A1", NOON, 0.5, 7, "Ann", True])
    push_values(online.writer, STATE, row)
    assert reader.read({"plate": ["A1"]}, NOON).values["kilometres"] == [7]
    own_server.kill()
    started = time.monotonic()
    with pytest.raises(OnlineStoreUnavailableError, match="does not answer, tried 2 times"):
        reader.read({"plate": ["A1"]}, NOON)
    assert time.monotonic() - started < 1
    own_server.start()
    assert reader.read({"plate": ["A1"]}, NOON).missing == [["car_state"]]
    push_values(online.writer, STATE, row)
    assert reader.read({"plate": ["A1"]}, NOON).values["kilometres"] == [7]


def test_a_restart_between_two_reads_is_not_noticed(own_server: RedisServer, tmp_path: Path) -> None:
    reader = OnlineStoreUnderTest(tmp_path, address(own_server)).reader(STATE)
    reader.read({"plate": ["A1"]}, NOON)
    own_server.kill()
    own_server.start()
    assert reader.read({"plate": ["A1"]}, NOON).missing == [["car_state"]]


def test_a_redis_that_hangs_is_an_error_in_bounded_time(own_server: RedisServer, tmp_path: Path) -> None:
    online = OnlineStoreUnderTest(tmp_path, address(own_server, timeout_milliseconds=100, attempts=3))
    reader = online.reader(STATE)
    reader.read({"plate": ["A1"]}, NOON)
    own_server.process.send_signal(signal.SIGSTOP)  # the port stays open, nobody answers
    try:
        started = time.monotonic()
        with pytest.raises(OnlineStoreUnavailableError, match="tried 3 times: timed out"):
            reader.read({"plate": ["A1"]}, NOON)
        assert 0.25 < time.monotonic() - started < 2
    finally:
        own_server.process.send_signal(signal.SIGCONT)
    assert reader.read({"plate": ["A1"]}, NOON).missing == [["car_state"]]


def test_a_password_is_a_secret_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = RedisServer(tmp_path, "--requirepass", "hunter2")
    try:
        secured = OnlineStoreUnderTest(tmp_path, address(server, password_secret="SHOP_REDIS", database=3))
        with pytest.raises(MissingSecretError, match="SHOP_REDIS"):
            secured.reader(STATE)
        monkeypatch.setenv("SHOP_REDIS", "wrong")
        with pytest.raises(OnlineStoreError, match="refuses a read: WRONGPASS"):
            secured.reader(STATE).read({"plate": ["A1"]}, NOON)
        monkeypatch.setenv("SHOP_REDIS", "hunter2")
        again = OnlineStoreUnderTest(tmp_path, secured.address)
        push_values(again.writer, STATE, frame(STATE, ["A1", NOON, 0.5, 7, "Ann", True]))
        assert again.reader(STATE).read({"plate": ["A1"]}, NOON).values["kilometres"] == [7]
        open_account = OnlineStoreUnderTest(tmp_path, address(server))
        with pytest.raises(OnlineStoreError, match="refuses a read: NOAUTH"):
            open_account.reader(STATE).read({"plate": ["A1"]}, NOON)
    finally:
        server.kill()


READER = """
asked = {"plate": ["A1"], "town": ["Rom"], "number": [-2]}
read = build_online_features(online.environment, GROUPS).read(asked, NOON + HOUR)
print(read.values["kilometres"], sorted({"feast", "pandas", "dagster"} & set(sys.modules)))
"""


def test_the_connection_is_encrypted_and_the_certificate_checked(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path)
    tls_port = free_port()
    options = ["--tls-port", tls_port, "--tls-cert-file", certificate, "--tls-key-file", tmp_path / "key.pem"]
    server = RedisServer(tmp_path, *map(str, options), "--tls-auth-clients", "no")
    try:
        trusted = {"tls": True, "ca_file": str(certificate), "timeout_milliseconds": 2_000}
        online = OnlineStoreUnderTest(tmp_path, address(server, **trusted) | {"port": tls_port})
        push_values(online.writer, STATE, frame(STATE, ["A1", NOON, 0.5, 7, "Ann", True]))
        assert online.reader(STATE).read({"plate": ["A1"]}, NOON).values["kilometres"] == [7]
        strangers = OnlineStoreUnderTest(tmp_path, address(server, tls=True) | {"port": tls_port})
        with pytest.raises(OnlineStoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            strangers.reader(STATE).read({"plate": ["A1"]}, NOON)
    finally:
        server.kill()


def write_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that it signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - HOUR).not_valid_after(now + HOUR)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    authority = x509.BasicConstraints(ca=True, path_length=None)
    signed = (
        builder.add_extension(host, critical=False).add_extension(authority, critical=True).sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path = folder / "certificate.pem"
    path.write_bytes(signed.public_bytes(encoding))
    return path


def test_neither_feast_nor_pandas_is_loaded_to_read(filled: OnlineStoreUnderTest) -> None:
    with start_python(READER, filled) as reader:
        assert reader.communicate(timeout=60)[0] == "[7] []\n"


def test_the_declared_address_is_checked() -> None:
    with pytest.raises(ValueError, match="less than or equal to 65535"):
        RedisOnlineFeatures(RedisOnlineStore(kind="redis", host="x", port=70_000), GROUPS)
