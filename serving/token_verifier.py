"""Recognise callers by JSON Web Tokens of an identity provider. API keys: key_ring.py."""

import threading
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar

import jwt

from configs.access import IdentityProvider
from serving.callers import AccessUnavailableError, Caller, Identity, InvalidCredentialsError
from serving.rate_limit import TokenBucket
from serving.scopes import read_grants
from serving.signing_keys import ALGORITHMS, SigningKeys

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_CLAIMS = ["exp", "iss", "aud", "sub"]
"""Without these a token is none."""
_MOST_REMEMBERED = 10_000
_LONGEST_SUBJECT = 255
_REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "The token has expired.",
    jwt.ImmatureSignatureError: "The token is not valid yet.",
    jwt.InvalidAudienceError: "The token is for another audience.",
    jwt.InvalidIssuerError: "The token is of another issuer.",
    jwt.InvalidSignatureError: "The token's signature is wrong.",
    jwt.MissingRequiredClaimError: f"The token lacks one of {', '.join(_CLAIMS)}.",
}


class TokenVerifier:
    """Verifies tokens, and remembers by their hash those that it verified, until they expire or the keys change."""

    def __init__(
        self,
        provider: IdentityProvider,
        keys: SigningKeys,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._provider, self._keys = provider, keys
        self._monotonic, self._wall_clock = monotonic, wall_clock
        self._verified: dict[bytes, Identity] = {}
        self._buckets: dict[str, TokenBucket] = {}
        self._lock = threading.Lock()
        keys.on_change = self._forget

    def start(self) -> None:
        """Fetch the signing keys."""
        self._keys.start()

    def close(self) -> None:
        """Fetch them no more."""
        self._keys.close()

    def identify(self, token: str) -> Identity:
        """Whose token it is. Raises InvalidCredentialsError, AccessUnavailableError."""
        if not self._keys.are_usable:
            raise AccessUnavailableError("Tokens cannot be checked now.", 5)
        digest = sha256(token.encode()).digest()
        identity = self._verified.get(digest)
        if identity is None:
            # Written where it was read from: when the keys change meanwhile, that is a dictionary nobody reads.
            remembered = self._verified
            identity = self._identity(self._claims(token))
            with self._lock:
                _remember(remembered, digest, identity)
        if identity.expires_at <= self._wall_clock():
            raise InvalidCredentialsError(_REASONS[jwt.ExpiredSignatureError])
        return identity

    def _forget(self) -> None:
        self._verified = {}

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = self._key(jwt.get_unverified_header(token))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._provider.audience,
                issuer=self._provider.issuer,
                leeway=self._provider.leeway_seconds,
                options={"require": _CLAIMS},
            )
        except jwt.PyJWTError as error:
            # PyJWT's own words may repeat parts of the token.
            raise InvalidCredentialsError(_REASONS.get(type(error), "This is no valid key or token.")) from None
        return claims

    def _key(self, header: dict[str, Any]) -> jwt.PyJWK:
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise InvalidCredentialsError(f"The token must be signed by {', '.join(ALGORITHMS)}.")
        if not isinstance(key_id, str):
            raise InvalidCredentialsError("The token names no signing key.")
        key = self._keys.find(key_id, algorithm)
        if key is None:
            raise InvalidCredentialsError("The token's signing key is not known, or not yet.")
        return key

    def _identity(self, claims: dict[str, Any]) -> Identity:
        subject = claims["sub"]
        if not 0 < len(subject) <= _LONGEST_SUBJECT or not (subject.isascii() and subject.isprintable()):
            raise InvalidCredentialsError("The token's subject is not printable.")
        scopes = claims.get(self._provider.scope_claim, "")
        listed = scopes.split() if isinstance(scopes, str) else scopes if isinstance(scopes, list) else []
        grants = read_grants(scope for scope in listed if isinstance(scope, str))
        expires_at = int(claims["exp"]) + self._provider.leeway_seconds
        return Identity(Caller(subject, subject, "jwt"), grants, expires_at, self._bucket(subject))

    def _bucket(self, subject: str) -> TokenBucket | None:
        """One for all tokens of a subject."""
        rate = self._provider.requests_per_second
        if rate is None:
            return None
        with self._lock:
            bucket = self._buckets.get(subject)
            if bucket is None:
                bucket = TokenBucket(rate, self._provider.burst or max(1, round(rate)), self._monotonic)
                _remember(self._buckets, subject, bucket)
        return bucket


def _remember(memory: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep it in place of the one that is kept longest, if there are too many."""
    if len(memory) >= _MOST_REMEMBERED:
        del memory[next(iter(memory))]
    memory[key] = value
