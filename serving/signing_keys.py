"""Hold the public keys that an identity provider signs with. Tokens are checked in token_verifier.py."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import jwt

from configs.access import IdentityProvider
from serving.poller import Poller

logger = logging.getLogger("ray.serve")
ALGORITHMS = ("RS256", "ES256", "EdDSA")
"""Signatures by a private key only: `none` signs nothing, and HS256 is made with what everybody can read."""
_KINDS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_OTHER_NAMES = {"Ed25519": "EdDSA"}
_SHORTEST_RSA_BITS = 2_048
_TIMEOUT_SECONDS, _LARGEST_BYTES = 5.0, 1_000_000
_AGAIN_SECONDS = 5.0
"""Between a failure, or a key that nobody knows, and the next look."""

Keys = dict[tuple[str, str], jwt.PyJWK]
"""By id and algorithm."""


class SigningKeysError(Exception):
    """What the provider's address gives is no set of keys."""


class SigningKeys:
    """The keys as last fetched. They count for `stale_seconds` while the provider does not answer, then none does."""

    def __init__(self, provider: IdentityProvider, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._provider, self._monotonic = provider, monotonic
        self._keys: Keys = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._good_until = self._tried_at = float("-inf")
        self._poller = Poller("mlway-signing-keys", self.refresh)
        self.on_change: Callable[[], None] = lambda: None
        """Called when the keys are other ones."""

    def start(self) -> None:
        """Fetch the keys, and go on doing so in a thread."""
        self._poller.start()

    def close(self) -> None:
        """End the thread."""
        self._poller.close()

    @property
    def are_usable(self) -> bool:
        """Whether they were fetched lately enough."""
        return self._monotonic() <= self._good_until

    def find(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """The key; an unknown one makes the thread look again, at most once in some seconds."""
        found = self._keys.get((key_id, algorithm))
        if found is None and self._monotonic() - self._tried_at >= _AGAIN_SECONDS:
            self._tried_at = self._monotonic()
            self._poller.wake()
        return found

    def refresh(self) -> float:
        """Fetch the keys; a failure leaves the last ones. Gives the seconds until the next time."""
        began = self._tried_at = self._monotonic()
        try:
            published = _usable(_fetch(self._provider.jwks_url))
        except (httpx.HTTPError, SigningKeysError) as error:
            logger.error(  # noqa: TRY400 - expected, no trace
                "signing keys cannot be fetched from %s: %s %s",
                self._provider.jwks_url,
                type(error).__name__,
                str(error).splitlines()[:1],
            )
            return min(_AGAIN_SECONDS, self._provider.refresh_seconds)
        texts = {name: json.dumps(key, sort_keys=True) for name, (key, _) in published.items()}
        if texts != self._texts:
            self._keys = {name: key for name, (_, key) in published.items()}
            self._texts = texts
            self.on_change()
        self._good_until = began + self._provider.stale_seconds
        return self._provider.refresh_seconds


def _fetch(url: str) -> list[Any]:
    """The published keys; within a bounded time, and no more than a bounded size."""
    deadline, content = time.monotonic() + _TIMEOUT_SECONDS, b""
    with httpx.stream("GET", url, timeout=_TIMEOUT_SECONDS, follow_redirects=False) as response:
        if response.status_code != httpx.codes.OK:
            raise SigningKeysError(f"answered {response.status_code}")
        for part in response.iter_bytes():
            content += part
            if len(content) > _LARGEST_BYTES or time.monotonic() > deadline:
                raise SigningKeysError(f"is larger than {_LARGEST_BYTES} bytes, or slower than {_TIMEOUT_SECONDS} s")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise SigningKeysError("is not JSON") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise SigningKeysError("has no list `keys`")
    return keys


def _usable(published: list[Any]) -> dict[tuple[str, str], tuple[Mapping[str, Any], jwt.PyJWK]]:
    """Keys that verify signatures by one of ALGORITHMS; a set may well hold others, for other uses."""
    usable: dict[tuple[str, str], tuple[Mapping[str, Any], jwt.PyJWK]] = {}
    for key in published:
        if not isinstance(key, dict) or not isinstance(key.get("kid"), str) or "d" in key:
            continue
        algorithm = _algorithm(key)
        if algorithm is None:
            continue
        try:
            read = jwt.PyJWK(key, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError) as error:  # the last two from numbers that make no key
            logger.warning("a signing key cannot be read: %s", type(error).__name__)
            continue
        if algorithm != "RS256" or read.key.key_size >= _SHORTEST_RSA_BITS:
            usable[key["kid"], algorithm] = key, read
    return usable


def _algorithm(key: Mapping[str, Any]) -> str | None:
    """What a key signs by; a key says at most one, and what it is for."""
    kind, curve = key.get("kty"), key.get("crv")
    algorithm = _KINDS.get((kind, curve)) if isinstance(kind, str) and isinstance(curve, str | None) else None
    named = key.get("alg", algorithm)
    is_for_this = key.get("use", "sig") == "sig" and isinstance(named, str)
    return algorithm if is_for_this and _OTHER_NAMES.get(named, named) == algorithm else None
