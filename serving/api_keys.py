"""What a key is: its text, which only its owner has, and the record of it. Where records lie: access_store.py.

A key's secret is 256 random bits. Nobody guesses it, however fast a guess is checked: so one SHA-256 is enough, where a
password that a person chose would need a slow hash. Checking it costs a request less than a microsecond.
"""

import re
import secrets
from dataclasses import dataclass
from hashlib import sha256

PREFIX = "mlway_"
"""Marks a key, for endpoints and for scanners that look for leaked ones."""
_TEXT = re.compile(rf"{PREFIX}([0-9a-f]{{16}})_([0-9a-f]{{64}})")


@dataclass(frozen=True)
class RateLimit:
    """What a key may ask of one replica."""

    requests_per_second: float
    burst: int


@dataclass(frozen=True)
class KeyRecord:
    """All that is known of a key, times in seconds since 1970. The key itself is nowhere."""

    id: str
    name: str
    digest: str
    """SHA-256 of the secret, hexadecimal."""
    scopes: tuple[str, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    rate: RateLimit | None = None

    def state(self, now: float) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


def new_key() -> tuple[str, str]:
    """A new key's id and secret."""
    return secrets.token_hex(8), secrets.token_hex(32)


def key_text(key_id: str, secret: str) -> str:
    """What the owner is given."""
    return f"{PREFIX}{key_id}_{secret}"


def read_key(text: str) -> tuple[str, str] | None:
    """Id and secret of a key's text; None when it is not one."""
    match = _TEXT.fullmatch(text)
    return (match[1], match[2]) if match else None


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return sha256(secret.encode()).hexdigest()
