"""Who asks, and why a request is refused. How a caller is recognised: key_ring.py and token_verifier.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from configs.errors import MlwayError
from serving.rate_limit import TokenBucket, whole_seconds
from serving.scopes import EVERY_PRODUCT, Grants

REALM = 'Bearer realm="mlway"'


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: for logs and metrics. `id` is a key's id, or the subject of a token."""

    id: str
    name: str
    kind: Literal["key", "jwt", "open"]


ANYONE = Caller("", "", "open")
"""Who asks without a key where none is required."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that was recognised, until when (seconds since 1970), and what it may do."""

    caller: Caller
    grants: Grants
    expires_at: float = float("inf")
    bucket: TokenBucket | None = None

    def may(self, product: str, action: str) -> bool:
        """Whether a scope allows it."""
        return (product, action) in self.grants or (EVERY_PRODUCT, action) in self.grants


class AccessError(MlwayError):
    """A request that is not answered, as the fields of an HTTP answer. No text of the request is in them."""

    status: ClassVar[int]
    title: ClassVar[str]

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})


class MissingCredentialsError(AccessError):
    """The request says not who asks."""

    status, title = 401, "Unauthorized"

    def __init__(self) -> None:
        super().__init__("Send a key: `Authorization: Bearer KEY` or `X-API-Key: KEY`.", {"WWW-Authenticate": REALM})


class InvalidCredentialsError(AccessError):
    """What the request brings is no valid key or token."""

    status, title = 401, "Unauthorized"

    def __init__(self, detail: str) -> None:
        challenge = f'{REALM}, error="invalid_token", error_description="{detail}"'
        super().__init__(detail, {"WWW-Authenticate": challenge})


class NotPermittedError(AccessError):
    """The caller is known, and may not do this."""

    status, title = 403, "Forbidden"

    def __init__(self, product: str, action: str) -> None:
        scope = f"{product}:{action}"
        challenge = f'{REALM}, error="insufficient_scope", scope="{scope}"'
        super().__init__(f"This needs the scope {scope}.", {"WWW-Authenticate": challenge})


class RateLimitedError(AccessError):
    """The caller has asked for more than its rate."""

    status, title = 429, "Too Many Requests"

    def __init__(self, seconds: float) -> None:
        wait = whole_seconds(seconds)
        super().__init__(f"More than your rate allows; again in {wait} s.", {"Retry-After": wait})


class AccessUnavailableError(AccessError):
    """Nobody can say now who may ask; so nobody may."""

    status, title = 503, "Service Unavailable"

    def __init__(self, detail: str, seconds: float) -> None:
        super().__init__(detail, {"Retry-After": whole_seconds(seconds)})
