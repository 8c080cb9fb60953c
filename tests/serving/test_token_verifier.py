"""Who is let in by a token of a real identity provider on loopback, and who is not."""

import base64
import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from access_support import AUDIENCE, ISSUER, KeyServer, StandingClock, claims_with
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from mlway_assets.local.process_manager import wait_until
from serving.callers import (
    AccessError,
    AccessUnavailableError,
    Caller,
    InvalidCredentialsError,
    RateLimitedError,
)
from serving.signing_keys import SigningKeys
from serving.token_verifier import TokenVerifier

LONG_AGO = 1_000_000_000


class Verifier:
    """A verifier of the server's tokens, at moments that the test chooses."""

    def __init__(self, server: KeyServer, **provider: Any) -> None:
        self.monotonic, self.wall = StandingClock(), StandingClock(time.time())
        declared = server.provider(**provider)
        self.keys = SigningKeys(declared, monotonic=self.monotonic)
        clocks = {"monotonic": self.monotonic, "wall_clock": self.wall}
        self.tokens = TokenVerifier(declared, self.keys, **clocks)
        self.keys.refresh()

    def refusal(self, token: str) -> str:
        """In which words it is refused."""
        with pytest.raises(InvalidCredentialsError) as caught:
            self.tokens.identify(token)
        assert caught.value.status == 401
        return caught.value.detail


@pytest.fixture(scope="module")
def shared_server() -> Iterator[KeyServer]:
    """For tests that only sign."""
    server = KeyServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def verifier(shared_server: KeyServer) -> Verifier:
    return Verifier(shared_server)


@pytest.fixture
def server() -> Iterator[KeyServer]:
    """For tests that change what it publishes, or end it."""
    server = KeyServer()
    yield server
    if server.is_running:
        server.stop()


def encoded(part: Any) -> str:
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.mark.parametrize("key_id", ["rsa", "ec", "ed"])
def test_a_token_tells_who_asks_and_what_for(shared_server: KeyServer, verifier: Verifier, key_id: str) -> None:
    identity = verifier.tokens.identify(shared_server.token(key_id))
    assert identity.caller == Caller("shop", "shop", "jwt")
    assert identity.may("flight_delay", "predict")
    assert not identity.may("flight_delay", "explain")


@pytest.mark.parametrize(
    ("scope", "may_explain"),
    [
        ("flight_delay:admin", True),
        (["openid", 7, "*:explain"], True),
        ("openid profile", False),
        ({"flight_delay:admin": 1}, False),
        (None, False),
    ],
)
def test_scopes_are_a_text_or_a_list(
    shared_server: KeyServer, verifier: Verifier, scope: Any, may_explain: bool
) -> None:
    identity = verifier.tokens.identify(shared_server.token(scope=scope))
    assert identity.may("flight_delay", "explain") == may_explain


def test_another_claim_may_hold_the_scopes(shared_server: KeyServer) -> None:
    verifier = Verifier(shared_server, scope_claim="permissions")
    identity = verifier.tokens.identify(shared_server.token(scope="*:admin", permissions=["flight_delay:explain"]))
    assert not identity.may("flight_delay", "predict")
    assert identity.may("flight_delay", "explain")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": LONG_AGO, "iat": None}, "has expired"),
        ({"exp": None}, "lacks one of"),
        ({"exp": "soon"}, "no valid"),
        ({"exp": 1e400}, "no valid"),
        ({"nbf": 4_000_000_000}, "not valid yet"),
        ({"iat": 4_000_000_000}, "not valid yet"),
        ({"aud": "another"}, "another audience"),
        ({"aud": [AUDIENCE + "x"]}, "another audience"),
        ({"aud": None}, "lacks one of"),
        ({"iss": ISSUER.rstrip("/")}, "another issuer"),
        ({"iss": None}, "lacks one of"),
        ({"iss": [ISSUER]}, "another issuer|no valid"),
        ({"sub": None}, "lacks one of"),
        ({"sub": ""}, "subject"),
        ({"sub": "a\nb"}, "subject"),
        ({"sub": "x" * 256}, "subject"),
        ({"sub": "naïve"}, "subject"),
    ],
)
def test_claims_that_are_not_right_are_refused(
    shared_server: KeyServer, verifier: Verifier, claims: dict[str, Any], reason: str
) -> None:
    # Signed by hand: PyJWT would not encode some of these.
    private, _ = shared_server.private["ec"]
    token = jwt.api_jws.encode(json.dumps(claims_with(**claims)).encode(), private, "ES256", headers={"kid": "ec"})
    assert re.search(reason, verifier.refusal(token))


def test_a_token_may_be_for_several_audiences(shared_server: KeyServer, verifier: Verifier) -> None:
    verifier.tokens.identify(shared_server.token(aud=["another", AUDIENCE]))


def test_clocks_may_differ_by_the_leeway(shared_server: KeyServer) -> None:
    verifier, now = Verifier(shared_server, leeway_seconds=60), int(time.time())
    verifier.tokens.identify(shared_server.token(exp=now - 30))
    verifier.tokens.identify(shared_server.token(nbf=now + 30, iat=now + 30))
    assert "expired" in verifier.refusal(shared_server.token(exp=now - 90))
    assert "not valid yet" in verifier.refusal(shared_server.token(nbf=now + 90))


def test_a_token_that_was_verified_is_refused_once_it_expires(shared_server: KeyServer) -> None:
    verifier = Verifier(shared_server)
    token, expires = shared_server.token(), int(time.time()) + 300
    assert verifier.tokens.identify(token) is verifier.tokens.identify(token)
    verifier.wall.at = expires + 59
    verifier.tokens.identify(token)
    verifier.wall.at = expires + 61
    assert "expired" in verifier.refusal(token)


@pytest.mark.parametrize("key_id", ["rsa", "ec", "ed"])
def test_a_signature_of_another_key_is_refused(shared_server: KeyServer, verifier: Verifier, key_id: str) -> None:
    strangers: dict[str, Any] = {
        "rsa": (rsa.generate_private_key(65537, 2048), "RS256"),
        "ec": (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        "ed": (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    }
    token = jwt.encode(claims_with(), *strangers[key_id], {"kid": key_id})
    assert "signature is wrong" in verifier.refusal(token)


@pytest.mark.parametrize("key_id", ["rsa", "ec", "ed"])
def test_changed_claims_are_refused(shared_server: KeyServer, verifier: Verifier, key_id: str) -> None:
    header, _, signature = shared_server.token(key_id).split(".")
    changed = f"{header}.{encoded(claims_with(scope='*:admin'))}.{signature}"
    assert "signature is wrong" in verifier.refusal(changed)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 7, ["RS256"], {"a": 1}])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_a_token_that_nobody_signed_is_refused(verifier: Verifier, algorithm: Any, signature: str) -> None:
    token = f"{encoded({'alg': algorithm, 'kid': 'rsa'})}.{encoded(claims_with())}.{signature}"
    verifier.refusal(token)


@pytest.mark.parametrize("key_id", ["rsa", "ec"])
@pytest.mark.parametrize("form", ["pem", "der", "jwk"])
def test_a_public_key_is_no_secret_to_sign_with(
    shared_server: KeyServer, verifier: Verifier, key_id: str, form: str
) -> None:
    public = shared_server.private[key_id][0].public_key()
    encoding = serialization.Encoding.PEM if form == "pem" else serialization.Encoding.DER
    secret = public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    secret = json.dumps(shared_server.jwk(key_id)).encode() if form == "jwk" else secret
    signed = f"{encoded({'alg': 'HS256', 'kid': key_id, 'typ': 'JWT'})}.{encoded(claims_with())}"
    token = f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
    assert "must be signed by RS256, ES256, EdDSA" in verifier.refusal(token)


def test_other_algorithms_are_refused(shared_server: KeyServer, verifier: Verifier) -> None:
    private, _ = shared_server.private["rsa"]
    for algorithm in ("RS512", "PS256"):
        token = jwt.encode(claims_with(), private, algorithm, {"kid": "rsa"})
        assert "must be signed by" in verifier.refusal(token)


def test_a_key_is_used_with_its_own_algorithm_only(shared_server: KeyServer, verifier: Verifier) -> None:
    private, _ = shared_server.private["rsa"]
    assert "not known" in verifier.refusal(jwt.encode(claims_with(), private, "RS256", {"kid": "ec"}))


def test_a_key_that_the_token_brings_along_is_not_used(shared_server: KeyServer, verifier: Verifier) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(stranger.public_key(), as_dict=True)
    headers = {"kid": "ec", "jwk": jwk, "jku": "http://127.0.0.1:1/keys"}
    assert "signature is wrong" in verifier.refusal(jwt.encode(claims_with(), stranger, "ES256", headers))


def test_an_extension_that_must_be_understood_and_is_not_is_refused(
    shared_server: KeyServer, verifier: Verifier
) -> None:
    private, algorithm = shared_server.private["ec"]
    signed = f"{encoded({'alg': algorithm, 'kid': 'ec', 'crit': ['exp'], 'exp': 1})}.{encoded(claims_with())}"
    signature = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(signed.encode(), private)
    verifier.refusal(f"{signed}.{encoded(signature)}")


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c", "e30.e30.e30", "x" * 5_000, "[" * 8_000])
def test_what_is_no_token_is_refused(verifier: Verifier, token: str) -> None:
    verifier.refusal(token)


@pytest.mark.parametrize("header", [b"[" * 9_000, b"{" * 9_000, b"\xff\xfe", b"7", b"null", b'{"alg": 1e999}'])
def test_a_header_that_no_parser_likes_is_refused(verifier: Verifier, header: bytes) -> None:
    verifier.refusal(f"{encoded(header)}.{encoded(claims_with())}.AAAA")


PARTS = st.text(st.characters(codec="ascii")) | st.binary(max_size=200).map(encoded)


@given(st.lists(PARTS, max_size=5).map(".".join))
def test_any_text_is_refused_and_not_repeated(verifier: Verifier, token: str) -> None:
    detail = verifier.refusal(token)
    assert len(token) < 30 or token not in detail


HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x"]),
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()) | st.sampled_from(["RS256", "rsa"]),
)


@given(HEADERS, st.binary(max_size=64), st.binary(max_size=300))
def test_any_header_is_refused(verifier: Verifier, header: dict[str, Any], claims: bytes, signature: bytes) -> None:
    verifier.refusal(f"{encoded(header)}.{encoded(claims)}.{encoded(signature)}")


def test_a_token_without_a_key_id_is_refused(shared_server: KeyServer, verifier: Verifier) -> None:
    private, algorithm = shared_server.private["ec"]
    assert "names no signing key" in verifier.refusal(jwt.encode(claims_with(), private, algorithm))


def test_a_new_signing_key_is_fetched_when_it_is_first_used(server: KeyServer) -> None:
    verifier = Verifier(server)
    verifier.tokens.start()
    try:
        server.add("new", ec.generate_private_key(ec.SECP256R1()), "ES256")
        server.publish("rsa", "new")
        token, before = server.token("new"), server.requests
        for _ in range(20):
            assert "not known" in verifier.refusal(token)
        verifier.monotonic.at += 5
        assert "not known" in verifier.refusal(token)
        assert wait_until(lambda: verifier.keys.find("new", "ES256") is not None, 20)
        assert verifier.tokens.identify(token).caller.id == "shop"
        for number in range(20):
            verifier.refusal(server.token("new", headers={"kid": f"no-{number}"}))
        assert server.requests == before + 1
    finally:
        verifier.tokens.close()


def test_unknown_keys_are_looked_for_at_most_once_in_five_seconds(shared_server: KeyServer) -> None:
    verifier = Verifier(shared_server)
    looks: list[float] = []
    verifier.keys._poller.wake = lambda: looks.append(verifier.monotonic.at)  # type: ignore[method-assign]
    began = verifier.monotonic.at
    for _ in range(100):
        verifier.refusal(shared_server.token("ec", headers={"kid": "unknown"}))
        verifier.monotonic.at += 0.125
    assert looks == [began + 5, began + 10]


def test_a_key_that_is_no_longer_published_opens_nothing_any_more(server: KeyServer) -> None:
    verifier, token = Verifier(server), server.token("ec")
    verifier.tokens.identify(token)
    server.publish("rsa")
    verifier.keys.refresh()
    assert "not known" in verifier.refusal(token)


def test_a_key_that_was_replaced_under_its_name_opens_nothing_any_more(server: KeyServer) -> None:
    verifier, token = Verifier(server), server.token("ec")
    verifier.tokens.identify(token)
    server.add("ec", ec.generate_private_key(ec.SECP256R1()), "ES256")
    server.publish("ec")
    verifier.keys.refresh()
    assert "signature is wrong" in verifier.refusal(token)


def test_while_the_provider_is_gone_its_last_keys_count_until_they_are_stale(server: KeyServer) -> None:
    verifier, token = Verifier(server, stale_seconds=1_000, refresh_seconds=300), server.token()
    server.stop()
    verifier.monotonic.at += 1_000
    assert verifier.keys.refresh() == 5  # soon again
    verifier.tokens.identify(token)
    verifier.tokens.identify(server.token("ec"))
    verifier.monotonic.at += 0.1
    for known_or_not in (token, server.token("ed")):
        with pytest.raises(AccessUnavailableError) as caught:
            verifier.tokens.identify(known_or_not)
        assert caught.value.status == 503
    server.restart()
    assert verifier.keys.refresh() == 300
    verifier.tokens.identify(token)


def test_a_provider_that_was_never_there_lets_nobody_in(server: KeyServer) -> None:
    server.stop()
    with pytest.raises(AccessUnavailableError):
        Verifier(server).tokens.identify(server.token())


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, None),
        (302, None),
        *((200, text) for text in (b"<html>", b"[]", b'{"keys": {}}', b" " * 1_000_001, b"[" * 100_000, b"\xff")),
    ],
)
def test_an_answer_that_is_no_set_of_keys_leaves_the_last_ones(
    server: KeyServer, status: int, answer: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    verifier, token = Verifier(server), server.token()
    server.status, server.answer = status, server.answer if answer is None else answer
    assert verifier.keys.refresh() == 5
    assert "signing keys cannot be fetched" in caplog.text
    verifier.tokens.identify(token)


def test_keys_for_another_use_are_passed_over(server: KeyServer) -> None:
    short = rsa.generate_private_key(65537, 1024)
    server.add("short", short, "RS256")
    secret = {"kty": "oct", "kid": "rsa", "k": encoded(b"x" * 32), "alg": "HS256"}
    private = jwt.algorithms.ECAlgorithm.to_jwk(server.private["ec"][0], as_dict=True) | {"kid": "private"}
    p521 = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP521R1()).public_key(), as_dict=True)
    ed = jwt.algorithms.OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True)
    broken = [{"kty": "EC", "crv": "P-256", "kid": "b1", "x": "AA", "y": "AA"}, {"kty": "RSA", "kid": "b2", "n": 7}]
    broken += [{"kty": ["RSA"], "kid": "b3"}, {"kty": "EC", "crv": {}, "kid": "b4"}, {"kty": "RSA", "kid": 7}]
    broken += [{"kty": "OKP", "crv": "Ed25519", "kid": "b5", "x": "AA"}, {"kty": "RSA", "kid": "b6", "n": "", "e": ""}]
    others = [secret, private, p521 | {"kid": "p521"}, ed | {"kid": "ed448"}, *broken, None, 7, "key", []]
    others += [server.jwk("ec") | {"kid": "enc", "use": "enc"}, server.jwk("ec") | {"kid": "alg", "alg": "ES384"}]
    server.publish("rsa", "short", others=tuple(others))
    verifier = Verifier(server)
    known = ["rsa", "short", "private", "p521", "ed448", "enc", "alg", *(f"b{number}" for number in range(1, 7))]
    found = {key for key in known for kind in ("RS256", "ES256", "EdDSA") if verifier.keys.find(key, kind)}
    assert found == {"rsa"}


def test_a_rate_is_shared_by_all_tokens_of_a_subject(shared_server: KeyServer) -> None:
    verifier = Verifier(shared_server, requests_per_second=0.5, burst=2)
    first, again = (verifier.tokens.identify(shared_server.token(key_id)).bucket for key_id in ("rsa", "ec"))
    other = verifier.tokens.identify(shared_server.token(sub="other")).bucket
    assert first is again is not None
    assert other is not first
    assert [first.take(1) == 0 for _ in range(3)] == [True, True, False]


def test_no_more_tokens_are_remembered_than_declared(shared_server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.token_verifier._MOST_REMEMBERED", 3)
    verifier = Verifier(shared_server, requests_per_second=1)
    for number in range(9):
        verifier.tokens.identify(shared_server.token("ec", sub=f"shop-{number}"))
    assert len(verifier.tokens._verified) == len(verifier.tokens._buckets) == 3


def test_nothing_of_a_refused_token_is_logged_or_said(
    shared_server: KeyServer, verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = [shared_server.token(exp=LONG_AGO), shared_server.token(headers={"kid": "evil\nkid"})]
    with caplog.at_level(logging.DEBUG, "ray.serve"):
        for token in tokens:
            with pytest.raises(AccessError) as caught:
                verifier.tokens.identify(token)
            said = f"{caught.value} {caught.value.headers} {caught.value.__cause__}"
            assert not any(part in said for part in [*token.split("."), "evil"])
    assert not caplog.records


def test_access_takes_tokens_and_keys(shared_server: KeyServer, tmp_path: Any) -> None:
    from configs.load import load_environment
    from serving.access import build_access
    from serving.access_store import open_key_store

    environment = load_environment("local")
    changes = {"database": f"sqlite:///{tmp_path}/access.db"}
    changes |= {"identity_provider": shared_server.provider(requests_per_second=1, burst=1)}
    environment = environment.model_copy(update={"access": environment.access.model_copy(update=changes)})
    _, key = open_key_store(environment).create("shop", ("*:predict",))
    access = build_access(environment)
    access.start()
    try:
        assert access.admit(f"Bearer {key}", None, "flight_delay", "predict").kind == "key"
        assert access.admit(f"Bearer {shared_server.token()}", None, "flight_delay", "predict").kind == "jwt"
        with pytest.raises(RateLimitedError):
            access.admit(f"Bearer {shared_server.token('ec')}", None, "flight_delay", "predict")
        for token in ("a.b.c\n", "é", "\ud800", "x" * 20_000):
            with pytest.raises(InvalidCredentialsError):
                access.admit(f"Bearer {token}", None, "flight_delay", "predict")
        with pytest.raises(InvalidCredentialsError):
            access.admit(None, shared_server.token(), "flight_delay", "predict")
    finally:
        access.close()
