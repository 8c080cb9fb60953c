"""Take the decision log's segments into the lake: each record once, whatever is killed when, and only what is proven.

What the lake holds of each segment is part of the commit that adds its rows. Segments are read, never changed; only
the environment's `decisions.retention_days` deletes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

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

    located: list[Located] = field(default_factory=list)
    taken: dict[str, Taken] = field(default_factory=dict)
    bytes: int = 0


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
    pending = _Pending()
    for error in _take_all(kept, record, pending):
        if error is not None:
            done.broken.append(error)
        if pending.bytes >= _BATCH_BYTES:
            record = _write(product, platform, record, pending, done)
    if pending.located:
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
    content = SegmentContent(segment)
    decoder = RecordDecoder(content.header()) if content.is_begun else None
    ending = Ending(segment.name, 0, b"", is_closed=False)
    answered_until = taken.answered_until if taken else 0
    for line in checked_lines(content, before, taken):
        ending = Ending(segment.name, line.number, line.hash, line.is_footer)
        is_new = taken is None or line.number > taken.line
        record = decoder.read(line, wanted=is_new) if decoder else None
        if record is not None:
            pending.located.append(Located(segment.name, LoggedRecord(record, line), content.header()["request"]))
            answered_until = max(answered_until, record.decision.answered_at)
        if is_new:
            pending.bytes += len(line.payload)
            pending.taken[segment.name] = Taken(
                offset=line.end,
                line=line.number,
                head=line.hash.decode(),
                is_closed=line.is_footer,
                answered_until=answered_until,
            )
    return ending


def _write(
    product: ModelProduct, platform: Platform, record: LakeRecord, pending: _Pending, done: Compaction
) -> LakeRecord:
    frame = decision_frame(pending.located, table_columns(platform.project, product))
    record = record.with_taken(pending.taken)
    metadata = {RECORD: record.model_dump(mode="json")}
    done.version = platform.lake.append(LAYER, table_name(product.name), frame, metadata, done.version)
    done.decisions += len(pending.located)
    done.rows += len(frame)
    pending.located, pending.taken, pending.bytes = [], {}, 0
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
