"""The request log: one JSON line for each request, for people and log collectors.

It may drop lines, and says how many; what must not be lost is in the decision log. A request only queues its line;
another thread writes it. Everything but ASCII is escaped, so that no value that a caller chose can begin a line.
"""

import fcntl
import json
import os
import random
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.clock import Clock, build_clock
from configs.environments import Environment
from configs.telemetry import RequestLogLimits

MOST_PENDING = 20_000
"""Lines that wait to be written, at most; further ones are dropped, and counted."""
LONGEST_TEXT = 300
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=repr).encode


class RequestLog:
    """The request log of one product on one machine: its replicas write to the same file, whole lines at a time."""

    def __init__(self, file: Path, product: str, limits: RequestLogLimits, clock: Clock) -> None:
        self._file = file
        self._product = product
        self._clock = clock
        self._share = limits.answered_share
        self._bytes = int(limits.megabytes * 1_000_000)
        self._pending: deque[dict[str, Any]] = deque()
        self._dropped = 0

    def request(
        self,
        *,
        status: int,
        seconds: float,
        caller: str | None,
        decision_id: str | None = None,
        rows: int | None = None,
        model_version: int | None = None,
        degraded: Sequence[str] = (),
        problem: str | None = None,
        trace_id: str | None = None,
    ) -> None:
        """A request was answered or refused, after so many seconds. What is None or empty is left out of its line.

        That of a refused one also says the platform's time, `at`, which makes it one of a replayed day.
        """
        if status < 400 and random.random() >= self._share:  # noqa: S311 - a sample, not a secret
            return
        if len(self._pending) >= MOST_PENDING:
            self._dropped += 1
            return
        self._pending.append({
            "time": time.time(),
            "at": None if status < 400 else self._clock.now().isoformat(),
            "product": self._product,
            "status": status,
            "milliseconds": seconds * 1_000,
            "caller": caller,
            "decision_id": decision_id,
            "rows": rows,
            "model_version": model_version,
            "degraded": degraded,
            "problem": problem,
            "trace_id": trace_id,
        })  # fmt: skip

    def write(self) -> None:
        """Write what is queued; background.Periodic calls this. Raises OSError where the file cannot be written."""
        taken = [self._pending.popleft() for _ in range(len(self._pending))]
        lines = [_encode(_line(record)) for record in taken]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(_encode(_line({"time": time.time(), "product": self._product, "dropped_lines": dropped})))
        if not lines:
            return
        try:
            self._append(("\n".join(lines) + "\n").encode("ascii"))
        except OSError:
            self._dropped += dropped + len(taken)
            raise

    def _append(self, content: bytes) -> None:
        with self._opened() as descriptor:
            before = os.fstat(descriptor).st_size
            try:
                left = memoryview(content)
                while left:
                    left = left[os.write(descriptor, left) :]
            except OSError:
                os.ftruncate(descriptor, before)  # a full disk took half a line
                raise

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The file, locked against other replicas, and a new one where it has grown to its limit."""
        while True:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not self._is_current(descriptor):
                    continue
                if os.fstat(descriptor).st_size >= self._bytes:
                    self._file.replace(self._file.with_name(self._file.name + ".1"))
                    continue
                yield descriptor
                return
            finally:
                os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        """Whether the file is still where it was opened: another replica may have moved it away meanwhile."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._file.stat())
        except FileNotFoundError:
            return False


def build_request_log(environment: Environment, product: str) -> RequestLog:
    """The product's request log on this machine."""
    file, clock = request_log_file(environment, product), build_clock(environment.clock)
    return RequestLog(file, product, environment.telemetry.request_log, clock)


def request_log_file(environment: Environment, product: str) -> Path:
    """Where it is, in the environment's state folder; what came before lies beside it, with `.1` to its name."""
    return environment.state / "logs" / f"requests_{product}.jsonl"


def _line(record: Mapping[str, Any]) -> dict[str, Any]:
    line = {name: _cut(value) for name, value in record.items() if value is not None and value != ()}
    line["time"] = datetime.fromtimestamp(record["time"], UTC).isoformat(timespec="microseconds")
    return line


def _cut(value: Any) -> Any:
    """Texts not longer than a line's reader wants, numbers with as many digits."""
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return value[:LONGEST_TEXT] + "..."
    return round(value, 3) if isinstance(value, float) else value
