"""The table of keys: what is kept, what is not, and what is said when the database is not there."""

import dataclasses
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from servers import PostgresqlServer
from sqlalchemy.engine import make_url

from configs.load import load_environment
from serving.access_store import KeyRequestError, KeyStore, KeyStoreError, open_key_store
from serving.api_keys import RateLimit, digest_of, read_key

SCOPES = ("flight_delay:predict", "*:explain")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    """An empty store of each kind in turn."""
    if request.param == "sqlite":
        return KeyStore(make_url(f"sqlite:///{tmp_path}/state/access.db"))
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    server.empty()
    return KeyStore(make_url(server.uri))


def test_a_key_is_kept_with_everything_but_its_secret(store: KeyStore) -> None:
    rate = RateLimit(0.1, 200)
    record, text = store.create("The shop", SCOPES, expires_at=90.9, rate=rate, now=10.2)
    assert store.records() == [record]
    parts = read_key(text)
    assert parts is not None
    assert re.fullmatch(r"mlway_[0-9a-f]{16}_[0-9a-f]{64}", text)
    assert (record.id, record.digest) == (parts[0], digest_of(parts[1]))
    assert (record.name, record.scopes, record.rate) == ("The shop", SCOPES, rate)
    assert (record.created_at, record.expires_at, record.revoked_at) == (10, 90, None)
    assert parts[1] not in str(dataclasses.astuple(record))


def test_a_key_without_limits_is_kept_without(store: KeyStore) -> None:
    record, _ = store.create("shop", SCOPES)
    assert store.records() == [record]
    assert (record.expires_at, record.rate) == (None, None)
    assert record.state(1e18) == "active"


def test_no_two_keys_are_alike(store: KeyStore) -> None:
    texts = {store.create("shop", SCOPES)[1] for _ in range(5)}
    assert len(texts) == len({read_key(text) for text in texts}) == len(store.records()) == 5


def test_a_revoked_key_stays_on_the_list_and_leaves_the_snapshot(store: KeyStore) -> None:
    first, _ = store.create("one", SCOPES, now=1)
    second, _ = store.create("two", SCOPES, now=2)
    assert store.snapshot() == {first.id: first, second.id: second}
    revoked = store.revoke(first.id, now=5)
    assert revoked == dataclasses.replace(first, revoked_at=5)
    assert store.records() == [revoked, second]
    assert store.snapshot() == {second.id: second}
    assert revoked.state(0) == "revoked"


def test_a_second_revocation_changes_nothing(store: KeyStore) -> None:
    record, _ = store.create("one", SCOPES)
    assert store.revoke(record.id, now=5) == store.revoke(record.id, now=9)


@pytest.mark.parametrize("key_id", ["", "0" * 16, "' OR 1=1 --", "%", "\x00"])
def test_revoking_an_unknown_key_is_an_error_and_revokes_none(store: KeyStore, key_id: str) -> None:
    record, _ = store.create("one", SCOPES)
    with pytest.raises(KeyRequestError, match="mlway key list"):
        store.revoke(key_id)
    assert store.records() == [record]


def test_an_expired_key_says_so_from_that_second_on(store: KeyStore) -> None:
    record, _ = store.create("one", SCOPES, expires_at=100)
    assert (record.state(99.9), record.state(100)) == ("active", "expired")


def test_a_snapshot_gives_unchanged_keys_as_the_same_objects(store: KeyStore) -> None:
    record, _ = store.create("one", SCOPES)
    before = store.snapshot()[record.id]
    store.create("two", SCOPES)
    assert store.snapshot()[record.id] is before


@pytest.mark.parametrize("name", ["", " shop", "a\nb", "a\x1b[31m", "naïve", "x" * 101, "-", "a;b"])
def test_a_name_that_a_log_could_not_hold_is_refused(store: KeyStore, name: str) -> None:
    with pytest.raises(KeyRequestError, match="cannot be a key's name"):
        store.create(name, SCOPES)


def test_a_key_that_may_do_nothing_is_refused(store: KeyStore) -> None:
    with pytest.raises(KeyRequestError, match="may do nothing"):
        store.create("shop", ())


def test_before_the_first_key_the_list_is_empty_and_a_snapshot_an_error(store: KeyStore) -> None:
    assert store.records() == []
    with pytest.raises(KeyStoreError, match=r"Hint: "):
        store.snapshot()


def test_reading_makes_no_file(tmp_path: Path) -> None:
    store = KeyStore(make_url(f"sqlite:///{tmp_path}/access.db"))
    assert store.records() == []
    with pytest.raises(KeyStoreError, match=r"access\.db\.\nHint: .*mlway key create"):
        store.snapshot()
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "access.db").write_bytes(b"not a database" * 100)
    with pytest.raises(KeyStoreError, match="does not answer: file is not a database"):
        KeyStore(make_url(f"sqlite:///{tmp_path}/access.db")).snapshot()


def test_a_locked_file_is_an_error_and_answers_again_afterwards(tmp_path: Path) -> None:
    store = KeyStore(make_url(f"sqlite:///{tmp_path}/access.db"), timeout_seconds=0.05)
    record, _ = store.create("one", SCOPES)
    with closing(sqlite3.connect(tmp_path / "access.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(KeyStoreError, match="does not answer: database is locked"):
            store.snapshot()
        other.rollback()
    assert list(store.snapshot()) == [record.id]


def test_a_replaced_file_is_seen(tmp_path: Path) -> None:
    first, second = (KeyStore(make_url(f"sqlite:///{tmp_path}/{name}.db")) for name in "ab")
    first.create("one", SCOPES)
    record, _ = second.create("two", SCOPES)
    first.snapshot()
    (tmp_path / "b.db").replace(tmp_path / "a.db")
    assert list(first.snapshot()) == [record.id]


def test_a_server_that_went_away_is_an_error_until_it_is_back() -> None:
    server = PostgresqlServer()
    try:
        store = KeyStore(make_url(server.uri))
        record, _ = store.create("one", SCOPES)
        server.stop()
        with pytest.raises(KeyStoreError) as caught:
            store.snapshot()
        assert "hunter2" not in str(caught.value)
        server.start()
        assert list(store.snapshot()) == [record.id]
    finally:
        server.remove()


def test_a_replica_needs_no_right_to_write(postgresql_server: PostgresqlServer) -> None:
    postgresql_server.empty()
    record, _ = KeyStore(make_url(postgresql_server.uri)).create("one", SCOPES)
    postgresql_server.execute(
        "DROP ROLE IF EXISTS replica",
        "CREATE ROLE replica LOGIN",
        "GRANT USAGE ON SCHEMA public TO replica",
        "GRANT SELECT ON mlway_api_keys TO replica",
    )
    try:
        store = KeyStore(make_url(postgresql_server.uri).set(username="replica"))
        assert list(store.snapshot()) == [record.id]
        with pytest.raises(KeyStoreError, match="permission denied for table mlway_api_keys"):
            store.create("two", SCOPES)
    finally:
        postgresql_server.execute("DROP OWNED BY replica", "DROP ROLE replica")


@pytest.mark.parametrize(
    "password", ["hunter2", "hun/ter2", "hun@ter2", "hun%ter2", "hun:ter2", "[hunter2", "hun ter2"]
)
@pytest.mark.parametrize("rest", ["/keys?host=/nowhere", "127.0.0.1:1/keys", "127.0.0.1:1/keys?nonsense=1"])
def test_the_password_comes_from_its_secret_and_is_never_said(
    monkeypatch: pytest.MonkeyPatch, password: str, rest: str
) -> None:
    address = f"postgresql://clerk@{rest}"
    environment = load_environment("local")
    access = environment.access.model_copy(update={"database": address, "password_secret": "KEYS_PASSWORD"})
    environment = environment.model_copy(update={"access": access})
    monkeypatch.setenv("KEYS_PASSWORD", password)
    with pytest.raises(KeyStoreError) as caught:
        open_key_store(environment).snapshot()
    assert "clerk" in str(caught.value)
    assert not any(piece in str(caught.value) for piece in re.findall(r"\w{3,}", password))


@pytest.mark.parametrize("address", ["postgresql+nosuch://h/d", "postgresql://h:port/d", "postgresql+psycopg://h/d"])
def test_an_address_that_no_driver_takes_is_an_error(address: str) -> None:
    environment = load_environment("local")
    access = environment.access.model_copy(update={"database": address})
    with pytest.raises(KeyStoreError, match=r"access\.database"):
        open_key_store(environment.model_copy(update={"access": access}))
