"""Who is let in by a key, for what, how often, and what a refusal says."""

import dataclasses
import logging
import threading
from pathlib import Path

import pytest
from access_support import StandingClock
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from configs.access import EndpointAccess
from configs.load import load_environment
from mlway_assets.local.process_manager import wait_until
from serving.access import (
    Access,
    AccessError,
    AccessUnavailableError,
    Caller,
    InvalidCredentialsError,
    MissingCredentialsError,
    NotPermittedError,
    RateLimitedError,
    build_access,
)
from serving.access_store import KeyStore
from serving.api_keys import RateLimit, key_text, new_key
from serving.key_ring import KeyRing

PREDICT = ("flight_delay", "predict")
NOW = 1_700_000_000.0


class Guard:
    """Access over a store of keys in a SQLite file, at moments that the test chooses."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "access.db"
        self.store = KeyStore(make_url(f"sqlite:///{self.file}"))
        self.monotonic, self.wall = StandingClock(), StandingClock(NOW)
        self.policy = EndpointAccess(refresh_seconds=2, stale_seconds=300)
        self.keys = KeyRing(self.store, self.policy, monotonic=self.monotonic, wall_clock=self.wall)
        self.access = Access(self.keys, None)

    def key(self, *scopes: str, expires_at: float | None = None, rate: RateLimit | None = None) -> str:
        """A new key that replicas know of."""
        _, text = self.store.create("shop", scopes or ("flight_delay:predict",), expires_at=expires_at, rate=rate)
        self.keys.refresh()
        return text

    def admit(self, key: str, product: str = "flight_delay", action: str = "predict", cost: int = 1) -> Caller:
        return self.access.admit(f"Bearer {key}", None, product, action, cost)


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    return Guard(tmp_path)


@pytest.fixture(scope="module")
def busy_guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    """A guard with a key, for tests that only ask."""
    guard = Guard(tmp_path_factory.mktemp("access"))
    guard.key()
    return guard


def test_a_key_is_known_by_either_header(guard: Guard) -> None:
    key = guard.key()
    record = guard.store.records()[0]
    caller = Caller(record.id, "shop", "key")
    assert guard.access.admit(f"Bearer {key}", None, *PREDICT) == caller
    assert guard.access.admit(f"bearer  {key} ", None, *PREDICT) == caller
    assert guard.access.admit(None, key, *PREDICT) == caller


def test_a_request_without_a_key_is_told_how_to_send_one(guard: Guard) -> None:
    guard.key()
    with pytest.raises(MissingCredentialsError, match="X-API-Key") as caught:
        guard.access.admit(None, None, *PREDICT)
    assert (caught.value.status, caught.value.title) == (401, "Unauthorized")
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="mlway"'}


def test_where_no_key_is_required_one_that_is_sent_must_still_be_right(guard: Guard) -> None:
    access = Access(guard.keys, None, required=False)
    key = guard.key()
    assert access.admit(None, None, *PREDICT).kind == "open"
    assert access.admit(None, key, *PREDICT).kind == "key"
    with pytest.raises(InvalidCredentialsError):
        access.admit(None, key[:-1] + "x", *PREDICT)


def test_two_keys_at_once_are_refused(guard: Guard) -> None:
    key = guard.key()
    with pytest.raises(InvalidCredentialsError, match="not both"):
        guard.access.admit(f"Bearer {key}", key, *PREDICT)


def test_an_unknown_id_and_a_wrong_secret_are_refused_with_the_same_words(guard: Guard) -> None:
    key = guard.key()
    key_id, secret = new_key()
    refused = []
    for text in (key_text(key_id, secret), key_text(key.split("_")[1], secret)):
        with pytest.raises(InvalidCredentialsError) as caught:
            guard.admit(text)
        refused.append((caught.value.detail, caught.value.headers, caught.value.status))
    assert refused[0] == refused[1]
    assert 'error="invalid_token"' in refused[0][1]["WWW-Authenticate"]


def test_a_key_expires_by_the_machines_clock(guard: Guard) -> None:
    key = guard.key(expires_at=NOW + 10)
    guard.wall.at = NOW + 9.9
    guard.admit(key)
    guard.wall.at = NOW + 10
    with pytest.raises(InvalidCredentialsError, match="The key has expired"):
        guard.admit(key)


def test_a_revoked_key_is_refused_from_the_next_look_on(guard: Guard) -> None:
    key, other = guard.key(), guard.key()
    guard.store.revoke(key.split("_")[1])
    guard.admit(key)
    assert guard.keys.refresh() == 2
    with pytest.raises(InvalidCredentialsError, match="unknown or revoked"):
        guard.admit(key)
    guard.admit(other)


@pytest.mark.parametrize(
    ("scope", "product", "action", "is_allowed"),
    [
        ("flight_delay:predict", "flight_delay", "predict", True),
        ("flight_delay:predict", "flight_delay", "explain", False),
        ("flight_delay:predict", "arrival_delay", "predict", False),
        ("*:predict", "arrival_delay", "predict", True),
        ("*:predict", "arrival_delay", "admin", False),
        ("flight_delay:decisions:read", "flight_delay", "decisions:read", True),
        ("flight_delay:admin", "flight_delay", "decisions:read", True),
        ("flight_delay:admin", "flight_delay", "admin", True),
        ("flight_delay:admin", "arrival_delay", "predict", False),
        ("*:admin", "arrival_delay", "explain", True),
        ("flight_delay:everything", "flight_delay", "everything", False),
        ("predict", "flight_delay", "predict", False),
        (":predict", "flight_delay", "predict", False),
    ],
)
def test_a_scope_allows_its_action_of_its_product(
    guard: Guard, scope: str, product: str, action: str, is_allowed: bool
) -> None:
    key = guard.key(scope)
    if is_allowed:
        assert guard.admit(key, product, action).kind == "key"
        return
    with pytest.raises(NotPermittedError, match=f"needs the scope {product}:{action}") as caught:
        guard.admit(key, product, action)
    assert caught.value.status == 403
    challenge = f'Bearer realm="mlway", error="insufficient_scope", scope="{product}:{action}"'
    assert caught.value.headers == {"WWW-Authenticate": challenge}


def test_more_than_the_rate_is_refused_and_says_when_to_come_again(guard: Guard) -> None:
    key = guard.key(rate=RateLimit(0.5, 3))
    for _ in range(3):
        guard.admit(key)
    guard.monotonic.at += 1
    with pytest.raises(RateLimitedError) as caught:
        guard.admit(key)
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
    guard.monotonic.at += 1
    guard.admit(key)


def test_a_rate_is_each_keys_own(guard: Guard) -> None:
    first, second = guard.key(rate=RateLimit(1, 1)), guard.key(rate=RateLimit(1, 1))
    guard.admit(first)
    guard.admit(second)


def test_what_is_refused_for_its_scope_costs_nothing_of_the_rate(guard: Guard) -> None:
    key = guard.key(rate=RateLimit(1, 1))
    for _ in range(3):
        with pytest.raises(NotPermittedError):
            guard.admit(key, action="explain")
    guard.admit(key)


def test_another_look_at_the_keys_does_not_fill_the_bucket(guard: Guard) -> None:
    key = guard.key(rate=RateLimit(1, 1))
    guard.admit(key)
    guard.keys.refresh()
    with pytest.raises(RateLimitedError):
        guard.admit(key)


def test_while_the_store_is_gone_the_last_keys_count_until_they_are_stale(
    guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    key = guard.key()
    guard.file.rename(guard.file.with_suffix(".away"))
    for _ in range(3):
        guard.monotonic.at += 100
        guard.keys.refresh()
        guard.admit(key)
    assert len(caplog.records) == 1  # said once, not every two seconds
    assert guard.access.key_age_seconds == 300
    guard.monotonic.at += 0.1
    with pytest.raises(AccessUnavailableError) as caught:
        guard.admit(key)
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "2"})
    guard.file.with_suffix(".away").rename(guard.file)
    guard.keys.refresh()
    guard.admit(key)


def test_before_the_keys_were_ever_read_nobody_is_let_in(guard: Guard) -> None:
    key = guard.store.create("shop", ("*:admin",))[1]
    guard.file.unlink()
    guard.keys.refresh()
    with pytest.raises(AccessUnavailableError):
        guard.admit(key)
    with pytest.raises(MissingCredentialsError):
        guard.access.admit(None, None, *PREDICT)


def test_a_thread_reads_the_keys_again_and_again(tmp_path: Path) -> None:
    environment = load_environment("local")
    policy = environment.access.model_copy(
        update={"database": f"sqlite:///{tmp_path}/access.db", "refresh_seconds": 0.01}
    )
    access = build_access(environment.model_copy(update={"access": policy}))
    store = KeyStore(make_url(policy.database))
    access.start()
    try:
        record, key = store.create("shop", ("*:predict",))
        assert wait_until(lambda: _is_admitted(access, key), 20)
        store.revoke(record.id)
        assert wait_until(lambda: not _is_admitted(access, key), 20)
    finally:
        access.close()
    assert "mlway-keys" not in {thread.name for thread in threading.enumerate()}


def _is_admitted(access: Access, key: str) -> bool:
    try:
        return access.admit(None, key, *PREDICT).kind == "key"
    except AccessError:
        return False


HEADERS = st.none() | st.text() | st.text().map("Bearer {}".format) | st.from_regex(r"Bearer mlway_[0-9a-f_]*\Z")


@given(HEADERS, HEADERS)
def test_any_text_in_headers_gives_a_refusal_that_does_not_repeat_it(
    busy_guard: Guard, authorization: str | None, api_key: str | None
) -> None:
    with pytest.raises(AccessError) as caught:
        busy_guard.access.admit(authorization, api_key, "flight_delay", "predict")
    assert caught.value.status == 401
    assert all(value.isascii() and value.isprintable() for value in caught.value.headers.values())
    said = f"{caught.value} {caught.value.headers}"
    for sent in (authorization, api_key):
        words = (sent or "").removeprefix("Bearer ")
        assert len(words) < 30 or words not in said


@pytest.mark.parametrize("end", ["\n", "\r\nSet-Cookie: a=b", "\x00", "é", "\ud800", "\x7f", "a" * 20_000])
def test_a_key_with_anything_behind_it_is_refused(busy_guard: Guard, end: str) -> None:
    key = busy_guard.key()
    for headers in ((f"Bearer {key}{end}", None), (None, f"{key}{end}")):
        with pytest.raises(InvalidCredentialsError, match="This is no key"):
            busy_guard.access.admit(*headers, *PREDICT)


def test_nothing_of_a_refused_key_is_logged(busy_guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidCredentialsError):
        busy_guard.admit(busy_guard.key()[:-1] + "0x")
    assert not caplog.records


def test_a_caller_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Caller("a", "b", "key").name = "c"  # type: ignore[misc]
