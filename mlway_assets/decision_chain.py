"""Hold the decision log's segments against one another, and against what the lake recorded when it took them in."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from configs.schema import Frozen
from mlway_assets.decision_table import LAYER, table_name
from mlway_assets.lake import Commit, ConcurrentWriteError, Lake
from serving.decision_records import GENESIS, DecisionLogError
from serving.decision_segments import ChainError, Line, SegmentContent, SegmentFile

RECORD = "mlway.decisions"
"""Name in a commit's metadata of what the lake holds of each segment."""
REWRITTEN = "written anew"
"""A problem: the lines follow from one another, but are not those that the lake has taken in."""


class Taken(Frozen):
    """How far a segment lies in the lake."""

    offset: int
    """Bytes from its beginning."""
    line: int
    head: str
    """Hash of that line."""
    is_closed: bool
    answered_until: int
    """The newest decision's answered_at, microseconds since 1970."""


class Released(Frozen):
    """The last segment of a replica that was deleted on purpose."""

    sequence: int
    head: str


class LakeRecord(Frozen):
    """What the lake holds of a product's segments. It is part of the commit that adds the rows."""

    segments: dict[str, Taken] = {}
    released: dict[str, Released] = {}
    """By replica."""

    def expected(self, replica: str) -> tuple[int, bytes]:
        """Sequence of the first segment that must be there, and the hash that it follows."""
        released = self.released.get(replica)
        return (released.sequence + 1, released.head.encode()) if released else (1, GENESIS)

    def with_taken(self, taken: Mapping[str, Taken]) -> "LakeRecord":
        """The record after more was taken in."""
        return LakeRecord(segments={**self.segments, **taken}, released=self.released)

    def with_released(self, released: Mapping[str, Released]) -> "LakeRecord":
        """The record after some segments were given up."""
        after = LakeRecord(released={**self.released, **released})
        return LakeRecord(
            segments={name: taken for name, taken in self.segments.items() if after.expects(name)},
            released=after.released,
        )

    def expects(self, segment: str) -> bool:
        """Whether the segment of that name was not given up."""
        replica, _, sequence = segment.rpartition("-")
        return int(sequence) >= self.expected(replica)[0]

    def keeps(self, segment: SegmentFile) -> bool:
        """Whether the segment is not one that was released, and is yet to be deleted."""
        return self.expects(segment.name)


def read_lake_record(lake: Lake, product: str) -> tuple[LakeRecord, int | None]:
    """The newest record, and the table's version; an empty one and None before the first.

    Raises DecisionLogError, and ConcurrentWriteError while another is written.
    """
    table = table_name(product)
    if not lake.exists(LAYER, table):
        return LakeRecord(), None
    version = lake.version(LAYER, table)
    found = lake.newest_recorded(LAYER, table, RECORD) or _search(lake.commits(LAYER, table))
    if found is not None and found.version > version:
        raise ConcurrentWriteError(f"{LAYER}/{table}")
    if found is None:
        raise DecisionLogError(
            f"No version of {LAYER}/{table} in the lake says which decisions it holds.\n"
            "Hint: the table is the decision log's own; restore its Delta log, or move the table away."
        )
    return LakeRecord.model_validate(found.metadata[RECORD]), version


def _search(commits: Sequence[Commit]) -> Commit | None:
    return next((commit for commit in commits if RECORD in commit.metadata), None)


def by_replica(segments: Sequence[SegmentFile]) -> Iterator[tuple[str, list[SegmentFile]]]:
    """The segments of each replica in order."""
    for replica, found in groupby(segments, lambda segment: segment.replica):
        yield replica, list(found)


def missing_segments(segments: Sequence[SegmentFile], record: LakeRecord) -> list[ChainError]:
    """A segment that must have been between others, or that the lake has rows of, and that is not there."""
    there = {segment.name for segment in segments}
    needed = dict.fromkeys(name for name in record.segments if name not in there)
    for replica, found in by_replica(segments):
        first = record.expected(replica)[0]
        wanted = (f"{replica}-{sequence:06d}" for sequence in range(first, found[-1].sequence))
        needed |= dict.fromkeys(name for name in wanted if name not in there)
    return [ChainError(name, 1, "missing", "The segment's file is gone.") for name in sorted(needed)]


class Ending(NamedTuple):
    """Where a segment ends, for the one behind it to follow."""

    segment: str
    line: int
    head: bytes
    is_closed: bool


def first_ending(record: LakeRecord, replica: str) -> Ending:
    """What the first segment of a replica follows."""
    sequence, head = record.expected(replica)
    return Ending(f"{replica}-{sequence - 1:06d}", 0, head, is_closed=True)


def checked_lines(content: SegmentContent, before: Ending, taken: Taken | None) -> Iterator[Line]:
    """The lines of a segment that follows `before` and of which the lake holds `taken`. Raises ChainError."""
    name, last = content.segment.name, 0
    if content.is_begun and content.header()["previous"].encode() != before.head:
        raise _does_not_follow(name, before)
    for line in content.lines() if content.is_begun else ():
        if taken is not None and line.number == taken.line and line.hash.decode() != taken.head:
            raise ChainError(name, line.number, REWRITTEN, "The lake holds another hash of this line.")
        last = line.number
        yield line
    if taken is not None and last < taken.line:
        raise ChainError(name, last + 1, "missing", f"Lines {last + 1} to {taken.line} are gone; the lake holds them.")


def _does_not_follow(name: str, before: Ending) -> ChainError:
    if before.is_closed:
        return ChainError(name, 1, "altered", f"It does not follow the end of {before.segment}.")
    detail = f"{name} follows a later record: the end of this segment is gone."
    return ChainError(before.segment, before.line + 1, "missing", detail)
