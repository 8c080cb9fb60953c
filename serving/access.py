"""Decide for each request whether it is answered. Nothing here waits: keys are read beside the requests.

Who made the keys: access_store.py. Which HTTP answer a refusal becomes: AccessError's fields, and the endpoint.
"""

from typing import TYPE_CHECKING

from configs.environments import Environment
from serving.access_store import open_key_store
from serving.api_keys import PREFIX
from serving.callers import (
    ANYONE,
    AccessError,
    AccessUnavailableError,
    Caller,
    Identity,
    InvalidCredentialsError,
    MissingCredentialsError,
    NotPermittedError,
    RateLimitedError,
)
from serving.key_ring import KeyRing

if TYPE_CHECKING:
    from serving.token_verifier import TokenVerifier

__all__ = [
    "Access",
    "AccessError",
    "AccessUnavailableError",
    "Caller",
    "InvalidCredentialsError",
    "MissingCredentialsError",
    "NotPermittedError",
    "RateLimitedError",
    "build_access",
]
_LONGEST_TOKEN = 16_384


class Access:
    """The guard of one replica's endpoints. Limits of rates are those of this replica."""

    def __init__(self, keys: KeyRing, tokens: "TokenVerifier | None", *, required: bool = True) -> None:
        self._keys, self._tokens, self._required = keys, tokens, required

    def start(self) -> None:
        """Read keys and signing keys, and go on doing so in threads. Where they cannot be read, all is refused."""
        self._keys.start()
        if self._tokens:
            self._tokens.start()

    def close(self) -> None:
        """End the threads."""
        self._keys.close()
        if self._tokens:
            self._tokens.close()

    @property
    def key_age_seconds(self) -> float:
        """How long ago the keys were last read, for a metric: `access.stale_seconds` later nobody is let in."""
        return self._keys.age_seconds

    def admit(self, authorization: str | None, api_key: str | None, product: str, action: str, cost: int = 1) -> Caller:
        """Who asks, when it may do `action` with `product`, for `cost` of its rate: one for a request, or for a row.

        A further question about a request that was admitted costs 0.
        `authorization` and `api_key` are the values of the headers Authorization and X-API-Key. Raises AccessError.
        """
        if authorization is None and api_key is None:
            if self._required:
                raise MissingCredentialsError
            return ANYONE
        identity = self._identify(authorization, api_key)
        if not identity.may(product, action):
            raise NotPermittedError(product, action)
        if identity.bucket is not None:
            wait = identity.bucket.take(cost)
            if wait:
                raise RateLimitedError(wait)
        return identity.caller

    def _identify(self, authorization: str | None, api_key: str | None) -> Identity:
        if authorization is None:
            return self._keys.identify(api_key or "")
        if api_key is not None:
            raise InvalidCredentialsError("Send one of Authorization and X-API-Key, not both.")
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidCredentialsError("Authorization must be of the scheme Bearer.")
        credentials = credentials.strip(" ")
        if self._tokens is None or credentials.startswith(PREFIX):
            return self._keys.identify(credentials)
        return self._tokens.identify(_require_plain(credentials))


def _require_plain(token: str) -> str:
    """The token, if it is of a length and of characters that one can have. A key's form says both of itself."""
    if len(token) > _LONGEST_TOKEN or not (token.isascii() and token.isprintable()):
        raise InvalidCredentialsError("This is no valid key or token.")
    return token


def build_access(environment: Environment) -> Access:
    """The guard that an environment declares, not started. Raises KeyStoreError for an address that is none."""
    policy = environment.access
    tokens = None
    if policy.identity_provider:
        from serving.signing_keys import SigningKeys
        from serving.token_verifier import TokenVerifier

        tokens = TokenVerifier(policy.identity_provider, SigningKeys(policy.identity_provider))
    return Access(KeyRing(open_key_store(environment), policy), tokens, required=policy.required)
