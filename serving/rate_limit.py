"""Token buckets: how much a caller may ask for now. Who the caller is: access.py."""

import threading
from collections.abc import Callable
from math import ceil
from time import monotonic

_ROUNDING = 1e-6
"""Tokens that sums of fractions may lack."""


class TokenBucket:
    """Holds up to `burst` tokens and gains `per_second` of them.

    What costs more than a full bucket takes a full one and leaves a debt: it is answered, and the rate is kept.
    """

    __slots__ = ("_burst", "_clock", "_lock", "_per_second", "_seen_at", "_tokens")

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, float(burst), clock
        self._tokens, self._seen_at = self._burst, clock()
        self._lock = threading.Lock()

    def take(self, cost: int) -> float:
        """Take `cost` tokens and give 0; or take none, and give the seconds until there are enough.

        What costs nothing is never refused, not even of a bucket in debt.
        """
        if cost <= 0:
            return 0.0
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._seen_at) * self._per_second)
            self._seen_at = now
            needed = min(cost, self._burst)
            if self._tokens >= needed - _ROUNDING:
                self._tokens -= cost
                return 0.0
            return (needed - self._tokens) / self._per_second


def whole_seconds(seconds: float) -> str:
    """For a Retry-After header: at least 1, rounded up."""
    return str(max(1, ceil(seconds)))
