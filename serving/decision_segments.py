"""Read the decision log's segments, and prove each line's hash on the way. How segments are written: decision_log.py.

A last line without its end was being written when its process ended; nobody was answered by it, and it is left out. Any
other line that does not follow from the one before it is a broken chain.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from serving.decision_records import (
    FORMAT,
    HASH_LENGTH,
    Context,
    DecisionLogError,
    Record,
    decode_context,
    decode_decision,
    line_hash,
)

_SUFFIX, _RELEASED = ".log", ".released"


class ChainError(DecisionLogError):
    """The first record that is not what was written, or not where it was written."""

    def __init__(self, segment: str, line: int, problem: str, detail: str, decision: str | None = None) -> None:
        self.segment, self.line, self.problem, self.detail, self.decision = segment, line, problem, detail, decision
        named = f" (decision {decision})" if decision else ""
        super().__init__(
            f"{segment}, line {line}{named}: {problem}. {detail}\n"
            "Hint: `mlway verify-log` checks every segment; restore this one from a copy, and find out who changed it."
        )


class SegmentFile(NamedTuple):
    """A segment in the folder of its product."""

    path: Path
    replica: str
    sequence: int

    @property
    def name(self) -> str:
        """Its file's name without the suffix."""
        return self.path.stem


class Line(NamedTuple):
    """A line whose hash follows from the line before."""

    number: int
    hash: bytes
    payload: bytes
    end: int
    """Bytes from the segment's beginning to behind this line."""

    @property
    def is_decision(self) -> bool:
        """Whether a decision stands in it."""
        return self.payload.startswith(b'{"decision"')

    @property
    def is_footer(self) -> bool:
        """Whether the segment was closed by it."""
        return self.payload.startswith(b'{"footer"')


class LoggedRecord(NamedTuple):
    """A decision and where it stands."""

    record: Record
    line: Line


def segment_path(folder: Path, product: str, replica: str, sequence: int) -> Path:
    """Where a segment lies."""
    return folder / product / f"{replica}-{sequence:06d}{_SUFFIX}"


def list_segments(folder: Path, product: str) -> list[SegmentFile]:
    """A product's segments by replica and sequence."""
    found = []
    for path in (folder / product).glob(f"*{_SUFFIX}"):
        replica, _, sequence = path.stem.rpartition("-")
        if replica and sequence.isdecimal():
            found.append(SegmentFile(path, replica, int(sequence)))
    return sorted(found, key=lambda segment: (segment.replica, segment.sequence))


def read_end(path: Path) -> bytes | None:
    """The hash of the last whole line as the file has it; None where not even the first line is whole."""
    content = path.read_bytes()
    end = content.rfind(b"\n")
    if end < 0:
        return None
    start = content.rfind(b"\n", 0, end) + 1
    return content[start : start + HASH_LENGTH]


def write_released(folder: Path, product: str, replica: str, sequence: int, head: str) -> None:
    """Leave word of the last segment that was deleted, so that the same replica goes on behind it."""
    path = folder / product / f"{replica}{_RELEASED}"
    ready = path.with_suffix(".writing")
    ready.write_text(f"{sequence} {head}\n", encoding="ascii")
    ready.replace(path)


def read_released(folder: Path, product: str, replica: str) -> tuple[int, bytes] | None:
    """Sequence and last hash of the last segment of a replica that was deleted on purpose."""
    path = folder / product / f"{replica}{_RELEASED}"
    if not path.exists():
        return None
    sequence, head = path.read_bytes().split()
    return int(sequence), head


def has_writer(path: Path) -> bool:
    """Whether the process that writes the segment is alive. It holds a lock, which ends with it."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


class RecordDecoder:
    """Turns the lines of one segment, given in order, into records."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        self._header = header
        self._contexts: dict[int, Context] = {}

    def read(self, line: Line, *, wanted: bool = True) -> Record | None:
        """The decision in a line; None where there is none, or it is not wanted."""
        if line.payload.startswith(b'{"context"'):
            context = decode_context(line.payload)
            self._contexts[context.number] = context
        elif wanted and line.is_decision:
            return decode_decision(line.payload, self._header, self._contexts)
        return None


class SegmentContent:
    """A segment's whole lines, as they were when it was read."""

    def __init__(self, segment: SegmentFile) -> None:
        self.segment = segment
        content = segment.path.read_bytes()
        self.size = len(content)
        self._lines = content.split(b"\n")[:-1]

    @property
    def is_begun(self) -> bool:
        """Whether its first line is whole."""
        return bool(self._lines)

    def header(self) -> dict[str, Any]:
        """What the first line says. Raises ChainError where it says nothing."""
        try:
            header = orjson.loads(self._lines[0][HASH_LENGTH + 1 :])
            is_ours = header["header"] == FORMAT and len(header["previous"]) == HASH_LENGTH
        except (ValueError, KeyError, TypeError) as error:
            raise ChainError(self.segment.name, 1, "altered", "It is no header.") from error
        if not is_ours:
            raise ChainError(self.segment.name, 1, "altered", f"It is no header of format {FORMAT}.")
        return dict(header)

    def lines(self) -> Iterator[Line]:
        """Every line in order. Raises ChainError at the first that does not follow."""
        previous, end = self.header()["previous"].encode(), 0
        is_closed = False
        for number, text in enumerate(self._lines, start=1):
            stated, payload = text[:HASH_LENGTH], text[HASH_LENGTH + 1 :]
            if line_hash(previous, payload) != stated or text[HASH_LENGTH : HASH_LENGTH + 1] != b" ":
                raise self._broken(number)
            if is_closed:
                raise ChainError(self.segment.name, number, "additional", "The segment was closed before it.")
            end += len(text) + 1
            line = Line(number, stated, payload, end)
            is_closed = line.is_footer
            yield line
            previous = stated

    def records(self) -> Iterator[LoggedRecord]:
        """Every decision in order. Raises ChainError."""
        decoder = RecordDecoder(self.header()) if self.is_begun else None
        for line in self.lines() if decoder else ():
            if decoder is not None and (record := decoder.read(line)):
                yield LoggedRecord(record, line)

    def _broken(self, number: int) -> ChainError:
        """What is wrong with a line, by the number that it was given: it, or another, is elsewhere, gone or changed."""
        stated = _stated(self._lines[number - 1])
        decision = stated.get("decision")
        found = stated.get("line")
        later = [_stated(text).get("line") for text in self._lines[number:]]
        if isinstance(found, int) and found != number:
            if 0 < found < number and self._lines[found - 1] == self._lines[number - 1]:
                return ChainError(self.segment.name, number, "additional", f"It repeats line {found}.", decision)
            if number in later:
                detail = f"Line {found} stands where line {number} was written."
                return ChainError(self.segment.name, number, "reordered", detail, decision)
            if found > number:
                gone = f"Lines {number} to {found - 1} are" if found > number + 1 else f"Line {number} is"
                detail = f"{gone} gone: line {found} follows line {number - 1}."
                return ChainError(self.segment.name, number, "missing", detail, None)
        detail = "Its content does not have the hash that was written with it."
        return ChainError(self.segment.name, number, "altered", detail, decision)


def _stated(text: bytes) -> dict[str, Any]:
    """What a line says of itself, whole or not."""
    payload = text[HASH_LENGTH + 1 :]
    if payload.startswith(b'{"decision"'):
        payload = payload.rpartition(b" ")[0]
    try:
        content = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(content, dict) and "footer" in content:
        return {"line": content["footer"]}
    return content if isinstance(content, dict) else {}
