"""Record every answer of an endpoint before it is sent: one appended line each, chained to the line before.

A replica writes segments of its own, `FOLDER/PRODUCT/REPLICA-SEQUENCE.log`; the format is in decision_records.py. What
is appended survives the end of the process, however it ends. Reading is not done here: see decision_segments.py.
"""

import fcntl
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from configs.environments import Environment
from configs.load import Project
from configs.products import ModelProduct
from serving.decision_privacy import NOTHING_HIDDEN, Privacy, build_privacy
from serving.decision_records import (
    GENESIS,
    Context,
    Decision,
    DecisionLogError,
    Payload,
    encode_context,
    encode_decision,
    encode_footer,
    encode_header,
    line_hash,
    new_context,
)
from serving.decision_segments import has_writer, list_segments, read_end, read_released, segment_path

__all__ = ["Decision", "DecisionLog", "DecisionLogError", "new_decision_id", "open_decision_log"]

_MOST_PARTS = 1_000
"""The kernel takes 1,024 at once (IOV_MAX)."""
_chance = random.Random()  # noqa: S311 - ids are unique, not secret; seeded by the operating system
os.register_at_fork(after_in_child=_chance.seed)
_REPLICA = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")


def new_decision_id() -> str:
    """32 hexadecimal digits: 13 of microseconds since 1970, so that ids sort by time, and 19 by chance."""
    return f"{time.time_ns() // 1000:013x}{_chance.getrandbits(76):019x}"


class DecisionLog:
    """The log of one replica; one thread appends to it. It begins with the first decision.

    Raises DecisionLogError where the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        product: ModelProduct,
        replica: str,
        *,
        segment_bytes: int = 16_000_000,
        durability: Literal["process", "disk"] = "process",
        privacy: Privacy = NOTHING_HIDDEN,
    ) -> None:
        if not _REPLICA.match(replica):
            raise DecisionLogError(
                f"A replica cannot be called {replica!r} in file names.\n"
                "Hint: letters, digits, points, underscores and hyphens, at most 100."
            )
        self._folder, self._product, self._replica = folder, product, replica
        self._segment_bytes, self._privacy = segment_bytes, privacy
        self._flush = os.fdatasync if durability == "disk" else None
        self._segment: _Segment | None = None
        self._last: tuple[int, bytes] | None = None
        try:
            (folder / product.name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(folder / product.name, error) from error

    def append(self, *decisions: Decision) -> None:
        """Record decisions. When this returns, all are in the log; when it raises DecisionLogError, do not answer.

        After an error the log goes on by itself as soon as it can write again. What was refused is not in it, but where
        the flush to the disk alone has failed.
        """
        segment = self._segment
        if segment is None or segment.size >= self._segment_bytes:
            segment = self._next_segment()
        segment.append(decisions)

    def close(self) -> None:
        """End the log. A segment whose end cannot be written stays open: nothing of it is lost."""
        segment, self._segment = self._segment, None
        if segment is None:
            return
        try:
            segment.finish()
        except DecisionLogError:
            segment.release()  # a full disk: the footer says no more than that there is nothing behind it
        self._last = segment.sequence, segment.head

    def _next_segment(self) -> "_Segment":
        """Close the segment in hand, if any, and begin the one that follows it."""
        if self._segment is not None:
            self._segment.finish()
            self._last = self._segment.sequence, self._segment.head
            self._segment = None
        if self._last is None:
            self._last = self._left_behind()
        self._segment = self._begin(self._last[0] + 1, self._last[1])
        return self._segment

    def _begin(self, sequence: int, previous: bytes) -> "_Segment":
        name = self._product.name
        path = segment_path(self._folder, name, self._replica, sequence)
        header = encode_header(name, self._replica, sequence, self._product.population.request, previous)
        may_hold_floats = "float64" in self._product.population.request.values()
        encode = partial(encode_decision, privacy=self._privacy, may_hold_floats=may_hold_floats)
        return _Segment(path, sequence, previous, header, encode, self._privacy, self._flush)

    def _left_behind(self) -> tuple[int, bytes]:
        """Sequence and last hash of what a former process wrote as the same replica."""
        mine = [found for found in list_segments(self._folder, self._product.name) if found.replica == self._replica]
        if mine and has_writer(mine[-1].path):
            raise _taken(mine[-1].path)
        while mine:
            head = read_end(mine[-1].path)
            if head is not None:
                return mine[-1].sequence, head
            mine.pop().path.unlink()  # ended before its first line was whole: nobody was answered by it
        return read_released(self._folder, self._product.name, self._replica) or (0, GENESIS)


class _Segment:
    """A segment that is being written. Its state changes only once a write has succeeded."""

    def __init__(
        self,
        path: Path,
        sequence: int,
        previous: bytes,
        header: bytes,
        encode: Callable[[Decision, Context, int], Payload],
        privacy: Privacy,
        flush: Callable[[int], None] | None,
    ) -> None:
        self.sequence, self.head, self.size, self._lines = sequence, previous, 0, 0
        self._path, self._encode, self._privacy, self._flush = path, encode, privacy, flush
        self._contexts: list[Context] = []
        self._decisions = 0
        self._is_torn = False
        self._file = _create(path)
        try:
            self._write([(header,)])
            if flush is not None:
                _flush_folder(path.parent)
        except DecisionLogError:
            self.release()
            path.unlink()
            raise

    def append(self, decisions: Sequence[Decision]) -> None:
        contexts, payloads = list(self._contexts), list[Payload]()
        for decision in decisions:
            context = next((known for known in contexts if known.fits(decision, self._privacy)), None)
            if context is None:
                context = new_context(len(contexts), decision, self._privacy)
                contexts.append(context)
                payloads.append((encode_context(context, self._lines + len(payloads) + 1),))
            payloads.append(self._encode(decision, context, self._lines + len(payloads) + 1))
        self._write(payloads)
        self._contexts = contexts
        self._decisions += len(decisions)

    def finish(self) -> None:
        self._write([(encode_footer(self._lines + 1, self._decisions),)])
        self.release()

    def release(self) -> None:
        os.close(self._file)

    def _write(self, payloads: Sequence[Payload]) -> None:
        if self._is_torn:
            self._take_back()
        head, parts = self.head, list[bytes]()
        for payload in payloads:
            head = line_hash(head, *payload)
            parts += [head, b" ", *payload, b"\n"]
        if len(parts) > _MOST_PARTS:
            parts = [b"".join(parts)]
        size = sum(map(len, parts))
        try:
            written = os.writev(self._file, parts)
            while written < size:
                written += os.write(self._file, b"".join(parts)[written:])
        except OSError as error:
            self._is_torn = True
            self._take_back()
            raise _unusable(self._path, error) from error
        # From here on the lines are in the file and in the chain, whether or not they reach the disk.
        self.size += size
        self._lines += len(payloads)
        self.head = head
        if self._flush is not None:
            try:
                self._flush(self._file)
            except OSError as error:
                raise _unusable(self._path, error) from error

    def _take_back(self) -> None:
        """Cut off what a failed write has left, so that the chain goes on behind its last whole line."""
        try:
            os.ftruncate(self._file, self.size)
        except OSError as error:
            raise _unusable(self._path, error) from error
        self._is_torn = False


def open_decision_log(project: Project, environment: Environment, product: ModelProduct, replica: str) -> DecisionLog:
    """The log of one replica of a product, as the environment declares it. Raises DecisionLogError."""
    declared = environment.decisions
    return DecisionLog(
        environment.decisions_folder,
        product,
        replica,
        segment_bytes=int(declared.segment_megabytes * 1_000_000),
        durability=declared.durability,
        privacy=build_privacy(project, product, declared),
    )


def _create(path: Path) -> int:
    """A new file, locked as long as the process holds it open: a reader can tell that its writer lives."""
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o640)
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        raise _unusable(path, error) from error
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _flush_folder(folder: Path) -> None:
    """Bring a new file's name to the disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _taken(path: Path) -> DecisionLogError:
    return DecisionLogError(
        f"{path} belongs to another process, which writes as the same replica.\nHint: give each a name of its own."
    )


def _unusable(path: Path, error: OSError) -> DecisionLogError:
    return DecisionLogError(
        f"The decision log cannot write {path}: {error.strerror}.\n"
        "Hint: make room on its disk, or mend its permissions."
    )
