"""The time now, as an argument: nothing below the command line and the server's edge asks the machine."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

from configs.environments import ReplayClock, SystemClock
from configs.errors import MlwayError


class TimeIsMovedError(MlwayError):
    """Somebody else moves the replayed time on."""

    def __init__(self) -> None:
        super().__init__(
            "Another `mlway advance` lets days pass here.\nHint: wait for its end; both would run the same jobs."
        )


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

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Time is this process's to move, until the block or the process ends. Raises TimeIsMovedError."""
        with self._opened(".mover") as mover, self._opened(".moving") as moving:
            if not _locked(mover, fcntl.LOCK_EX | fcntl.LOCK_NB):
                raise TimeIsMovedError
            fcntl.flock(moving, fcntl.LOCK_EX)  # waits for those who look just now
            yield

    @property
    def is_being_moved(self) -> bool:
        """Whether somebody lets days pass, who then decides what each brings."""
        with self._opened(".moving") as moving:
            return not _locked(moving, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _opened(self, suffix: str) -> IO[bytes]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        return self._file.with_name(self._file.name + suffix).open("ab")


def is_being_moved(clock: Clock) -> bool:
    """Whether somebody lets days of a replayed time pass; a machine's time nobody moves."""
    return isinstance(clock, ReplayedTime) and clock.is_being_moved


def _locked(file: IO[bytes], how: int) -> bool:
    """Whether the lock could be had. It ends with the file, or with the process."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    return True


def build_clock(declared: SystemClock | ReplayClock) -> Clock:
    """The clock that the environment declares."""
    return ReplayedTime(declared.at, Path(declared.moved)) if isinstance(declared, ReplayClock) else _System()
