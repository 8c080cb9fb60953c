"""Recognise API keys from a snapshot of their records that is held in memory. Tokens: token_verifier.py."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from configs.access import EndpointAccess
from serving.access_store import KeyStore, KeyStoreError
from serving.api_keys import KeyRecord, read_key
from serving.callers import AccessUnavailableError, Caller, Identity, InvalidCredentialsError
from serving.poller import Poller
from serving.rate_limit import TokenBucket
from serving.scopes import read_grants

logger = logging.getLogger("ray.serve")
_NOBODY = "0" * 64
"""What the secret of an unknown id is held against, so that it costs what a known one does."""


@dataclass(frozen=True, slots=True)
class _HeldKey:
    record: KeyRecord
    identity: Identity


class KeyRing:
    """The valid keys as last read. They count for `stale_seconds` while the store does not answer, then none does."""

    def __init__(
        self,
        store: KeyStore,
        policy: EndpointAccess,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._policy = store, policy
        self._monotonic, self._wall_clock = monotonic, wall_clock
        self._keys: dict[str, _HeldKey] = {}
        self._records: dict[str, KeyRecord] = {}
        self._good_until = float("-inf")
        self._is_failing = False
        self._poller = Poller("mlway-keys", self.refresh)

    def start(self) -> None:
        """Read the keys, and go on doing so in a thread."""
        self._poller.start()

    def close(self) -> None:
        """End the thread."""
        self._poller.close()

    @property
    def age_seconds(self) -> float:
        """How old the snapshot is; infinite before the first."""
        return self._monotonic() - (self._good_until - self._policy.stale_seconds)

    def refresh(self) -> float:
        """Read the keys; what cannot be read leaves the last snapshot. Gives the seconds until the next time."""
        began = self._monotonic()
        try:
            records = self._store.snapshot()
        except KeyStoreError as error:
            if not self._is_failing:
                logger.error("%s", error)  # noqa: TRY400 - our own error, no trace
            self._is_failing = True
        else:
            if records is not self._records:
                self._keys = {key_id: self._hold(record) for key_id, record in records.items()}
                self._records = records
            self._good_until = began + self._policy.stale_seconds
            self._is_failing = False
        return self._policy.refresh_seconds

    def identify(self, text: str) -> Identity:
        """Whose key it is. Raises InvalidCredentialsError, AccessUnavailableError."""
        if self._monotonic() > self._good_until:
            raise AccessUnavailableError("Keys cannot be checked now.", self._policy.refresh_seconds)
        parts = read_key(text)
        if parts is None:
            raise InvalidCredentialsError("This is no key.")
        held = self._keys.get(parts[0])
        digest = sha256(parts[1].encode()).hexdigest()
        if not compare_digest(digest, held.record.digest if held else _NOBODY) or held is None:
            raise InvalidCredentialsError("The key is unknown or revoked.")
        if held.identity.expires_at <= self._wall_clock():
            raise InvalidCredentialsError("The key has expired.")
        return held.identity

    def _hold(self, record: KeyRecord) -> _HeldKey:
        held = self._keys.get(record.id)
        if held is not None and held.record is record:  # and its bucket stays as full as it is
            return held
        rate = record.rate
        bucket = TokenBucket(rate.requests_per_second, rate.burst, self._monotonic) if rate else None
        expires_at = float("inf") if record.expires_at is None else record.expires_at
        caller = Caller(record.id, record.name, "key")
        return _HeldKey(record, Identity(caller, read_grants(record.scopes), expires_at, bucket))
