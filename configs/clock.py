"""The time now, as an argument: nothing below the command line and the server's edge asks the machine."""

from datetime import UTC, datetime
from typing import Protocol

from configs.environments import ReplayClock, SystemClock


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The current moment, UTC."""
        ...


class _System:
    def now(self) -> datetime:
        return datetime.now(UTC)


class _Replay:
    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at


def build_clock(declared: SystemClock | ReplayClock) -> Clock:
    """The clock that the environment declares."""
    return _Replay(declared.at.astimezone(UTC)) if isinstance(declared, ReplayClock) else _System()
