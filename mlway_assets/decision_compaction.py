"""Take the decision log's segments into the lake: each record once, whatever is killed when, and only what is proven.

What the lake holds of each segment is part of the commit that adds its rows. Segments are read, never changed; only
the environment's `decisions.retention_days` deletes them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from configs.products import ModelProduct
from mlway_assets.decision_chain import (
    RECORD,
    Ending,
    LakeRecord,
    Released,
    Taken,
    by_replica,
    checked_lines,
    first_ending,
    missing_segments,
    read_lake_record,
)
from mlway_assets.decision_table import LAYER, Located, decision_frame, table_columns, table_name
from mlway_assets.resources import Platform
from serving.decision_segments import (
    ChainError,
    Line,
    LoggedRecord,
    RecordDecoder,
    SegmentContent,
    SegmentFile,
    has_writer,
    list_segments,
    write_released,
)

_BATCH_BYTES = 48_000_000
"""Bytes of segments in a commit: bounds the memory."""
_CHUNK_DECISIONS = 2_000
"""Decisions that are objects at a time."""
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass
class Compaction:
    """What was taken in, what is wrong with the log, and the segments deleted."""

    decisions: int = 0
    rows: int = 0
    version: int | None = None
    broken: list[ChainError] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


@dataclass
class _Pending:
    """Records that are not in the lake yet, and how far their segments lie there once they are."""

    columns: Mapping[str, Any]
    frames: list[pl.DataFrame] = field(default_factory=list)
    decisions: int = 0
    taken: dict[str, Taken] = field(default_factory=dict)
    bytes: int = 0
    _located: list[Located] = field(default_factory=list)

    def add(self, located: Located) -> None:
        self._located.append(located)
        if len(self._located) == _CHUNK_DECISIONS:
            self.make_columns()

    def clear(self) -> None:
        """Begin anew, once everything is in the lake."""
        self.frames, self.decisions, self.taken, self.bytes = [], 0, {}, 0

    def make_columns(self) -> None:
        """Turn records into columns: as objects they take ten times the memory."""
        if self._located:
            self.frames.append(decision_frame(self._located, self.columns))
            self.decisions += len(self._located)
            self._located = []


def compact_decisions(product: ModelProduct, platform: Platform, now: datetime) -> Compaction:
    """Add every whole record that the lake does not hold. `now` is the machine's time, for the retention.

    Segments that are still written are taken up to their last whole line. A record that does not follow from the one
    before it, and those behind it, are left out and named in `broken`. Without new records nothing is written. Raises
    ConcurrentWriteError, ChangedTypesError, DecisionLogError.
    """
    done, folder = Compaction(), platform.environment.decisions_folder
    found = list_segments(folder, product.name)
    if not found and not platform.lake.exists(LAYER, table_name(product.name)):
        return done
    record, done.version = read_lake_record(platform.lake, product.name)
    kept = [segment for segment in found if record.keeps(segment)]
    done.broken = missing_segments(kept, record)
    pending = _Pending(table_columns(platform.project, product))
    for error in _take_all(kept, record, pending):
        if error is not None:
            done.broken.append(error)
        if pending.frames and pending.bytes >= _BATCH_BYTES:
            record = _write(product, platform, record, pending, done)
    if pending.frames:
        record = _write(product, platform, record, pending, done)
    record = record.with_taken(pending.taken)
    _apply_retention(product, platform, record, found, now, done)
    return done


def _take_all(segments: list[SegmentFile], record: LakeRecord, pending: _Pending) -> Iterator[ChainError | None]:
    """Read what is new into `pending`; yields behind each segment that was read. With a broken one its replica ends."""
    for replica, found in by_replica(segments):
        before = first_ending(record, replica)
        for segment in found:
            taken = record.segments.get(segment.name)
            if taken is not None and segment.path.stat().st_size == taken.offset:
                before = Ending(segment.name, taken.line, taken.head.encode(), taken.is_closed)
                continue
            try:
                before = _take(segment, before, taken, pending)
            except ChainError as error:
                yield error
                break
            yield None


def _take(segment: SegmentFile, before: Ending, taken: Taken | None, pending: _Pending) -> Ending:
    content, name = SegmentContent(segment), segment.name
    header = content.header() if content.is_begun else {}
    decoder, newest = RecordDecoder(header), taken.answered_until if taken else 0
    line = None
    try:
        for line in checked_lines(content, before, taken):
            is_new = taken is None or line.number > taken.line
            record = decoder.read(line, wanted=is_new)
            if record is not None:
                pending.add(Located(name, LoggedRecord(record, line), header["request"]))
                newest = max(newest, record.decision.answered_at)
    finally:  # of a broken segment, what comes before the break
        pending.make_columns()
        if line is not None and (taken is None or line.number > taken.line):
            pending.taken[name] = _taken(line, newest)
            pending.bytes += line.end - (taken.offset if taken else 0)
    return Ending(name, line.number, line.hash, line.is_footer) if line else Ending(name, 0, b"", is_closed=False)


def _taken(line: Line, answered_until: int) -> Taken:
    return Taken(
        offset=line.end,
        line=line.number,
        head=line.hash.decode(),
        is_closed=line.is_footer,
        answered_until=answered_until,
    )


def _write(
    product: ModelProduct, platform: Platform, record: LakeRecord, pending: _Pending, done: Compaction
) -> LakeRecord:
    frame = pl.concat(pending.frames, how="diagonal")
    record = record.with_taken(pending.taken)
    metadata = {RECORD: record.model_dump(mode="json")}
    done.version = platform.lake.append(LAYER, table_name(product.name), frame, metadata, done.version)
    done.decisions += pending.decisions
    done.rows += len(frame)
    pending.clear()
    return record


def _apply_retention(
    product: ModelProduct,
    platform: Platform,
    record: LakeRecord,
    found: list[SegmentFile],
    now: datetime,
    done: Compaction,
) -> None:
    """Delete what is old enough. The lake is told first: what is gone then was given up, not lost."""
    days = platform.environment.decisions.retention_days
    if days is None or done.broken:
        return
    before = (now - timedelta(days=days) - _EPOCH) // timedelta(microseconds=1)
    released = {}
    for replica, segments in by_replica([segment for segment in found if record.keeps(segment)]):
        for segment in segments:
            taken = record.segments.get(segment.name)
            if taken is None or taken.answered_until >= before or not _is_whole(segment, taken):
                break
            released[replica] = Released(sequence=segment.sequence, head=taken.head)
    if released:
        record = record.with_released(released)
        empty = decision_frame([], table_columns(platform.project, product))
        metadata = {RECORD: record.model_dump(mode="json")}
        done.version = platform.lake.append(LAYER, table_name(product.name), empty, metadata, done.version)
    folder = platform.environment.decisions_folder
    for segment in found:
        if not record.keeps(segment):
            last = record.released[segment.replica]
            write_released(folder, product.name, segment.replica, last.sequence, last.head)
            segment.path.unlink()
            done.deleted.append(segment.name)


def _is_whole(segment: SegmentFile, taken: Taken) -> bool:
    """Whether the lake holds every whole line of a segment that nobody writes to any more."""
    if has_writer(segment.path):
        return False
    with segment.path.open("rb") as file:
        file.seek(taken.offset)
        return b"\n" not in file.read()
