"""The time now, as an argument: nothing below the command line and the server's edge asks the machine."""

from datetime import UTC, datetime
from pathlib import Path
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


class ReplayedTime:
    """A moment that stands still until it is moved on, then for every process that shares the file."""

    def __init__(self, at: datetime, file: Path) -> None:
        self._at, self._file, self._read_at = at.astimezone(UTC), file, -1

    def now(self) -> datetime:
        """The moment, UTC. Raises ValueError where the file holds no moment."""
        try:
            changed = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return self._at
        if changed != self._read_at:
            moved = datetime.fromisoformat(self._file.read_text(encoding="ascii")).astimezone(UTC)
            self._at, self._read_at = max(self._at, moved), changed
        return self._at

    def move_to(self, moment: datetime) -> None:
        """Move time on. Raises ValueError for a moment before now."""
        if moment < self.now():
            raise ValueError(f"time does not go back from {self.now()} to {moment}")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_name(self._file.name + ".new")
        new.write_text(moment.astimezone(UTC).isoformat(), encoding="ascii")
        new.replace(self._file)


def build_clock(declared: SystemClock | ReplayClock) -> Clock:
    """The clock that the environment declares."""
    return ReplayedTime(declared.at, Path(declared.moved)) if isinstance(declared, ReplayClock) else _System()
