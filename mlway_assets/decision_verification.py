"""Prove the decision log: every hash of every segment, and that nothing is gone which the lake has taken in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from configs.errors import MlwayError
from mlway_assets.decision_chain import (
    REWRITTEN,
    Ending,
    LakeRecord,
    by_replica,
    checked_lines,
    first_ending,
    missing_segments,
    read_lake_record,
)
from mlway_assets.decision_table import LAYER, table_name
from mlway_assets.lake import Lake
from mlway_assets.resources import Platform
from serving.decision_segments import ChainError, SegmentContent, SegmentFile, list_segments

OnBytes = Callable[[int], None]
"""Hears of the bytes of each segment that was read."""


class UnknownLogError(MlwayError):
    """No product is called so, and nothing was logged under that name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"There is no decision log of {name!r}. Known: {', '.join(known) or 'none'}.\n"
            "Hint: a product's endpoint writes it with its first answer."
        )


@dataclass
class VerifiedLog:
    """What was found in one product's log: `problems` holds the first of each segment, in order."""

    product: str
    segments: int = 0
    decisions: int = 0
    in_lake: int = 0
    """Segments that the lake holds rows of."""
    problems: list[ChainError] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        problems = [
            {
                "segment": found.segment,
                "line": found.line,
                "decision": found.decision,
                "problem": found.problem,
                "detail": found.detail,
            }
            for found in self.problems
        ]
        counts = {"segments": self.segments, "decisions": self.decisions, "in_lake": self.in_lake}
        return {**counts, "is_intact": not self.problems, "problems": problems}


def logged_products(platform: Platform, name: str | None = None) -> list[str]:
    """The products that may have a log, or the one called `name`. Raises UnknownLogError."""
    folder = platform.environment.decisions_folder
    written = [path.name for path in folder.glob("*") if path.is_dir()]
    known = sorted({*platform.project.products, *written})
    if name is not None and name not in known:
        raise UnknownLogError(name, known)
    return [name] if name else known


def log_bytes(platform: Platform, products: list[str]) -> int:
    """The size of these products' segments."""
    folder = platform.environment.decisions_folder
    return sum(segment.path.stat().st_size for name in products for segment in list_segments(folder, name))


def verify_log(product: str, platform: Platform, on_bytes: OnBytes = lambda _: None) -> VerifiedLog:
    """Check every line of a product's segments. Raises DecisionLogError where the lake's record cannot be read."""
    while True:
        record, version = read_lake_record(platform.lake, product)
        log = _verify(product, platform, record, on_bytes)
        # What a compaction deletes meanwhile is not missing: it has told the lake before.
        if not log.problems or read_lake_record(platform.lake, product)[1] == version:
            return log


def _verify(product: str, platform: Platform, record: LakeRecord, on_bytes: OnBytes) -> VerifiedLog:
    found = list_segments(platform.environment.decisions_folder, product)
    segments = [segment for segment in found if record.keeps(segment)]
    log = VerifiedLog(product, len(segments), in_lake=len(record.segments))
    problems = [*missing_segments(segments, record), *_problems(segments, record, log, on_bytes)]
    named = (_named(problem, product, platform.lake, segments) for problem in problems)
    log.problems = sorted(named, key=lambda error: (error.segment, error.line))
    return log


def _problems(
    segments: list[SegmentFile], record: LakeRecord, log: VerifiedLog, on_bytes: OnBytes
) -> Iterator[ChainError]:
    for replica, found in by_replica(segments):
        before: Ending | None = first_ending(record, replica)
        for segment in found:
            try:
                content = SegmentContent(segment)
                before = _check(content, before or _as_stated(content), record, log)
            except ChainError as error:
                yield error
                before = None  # what follows is held against what it says of itself
            except FileNotFoundError:
                yield ChainError(segment.name, 1, "missing", "The segment's file is gone.")
                before = None
            else:
                on_bytes(content.size)


def _check(content: SegmentContent, before: Ending, record: LakeRecord, log: VerifiedLog) -> Ending:
    name = content.segment.name
    ending = Ending(name, 0, b"", is_closed=False)
    for line in checked_lines(content, before, record.segments.get(name)):
        ending = Ending(name, line.number, line.hash, line.is_footer)
        log.decisions += line.is_decision
    return ending


def _as_stated(content: SegmentContent) -> Ending:
    previous = content.header()["previous"].encode() if content.is_begun else b""
    return Ending("", 0, previous, is_closed=True)


def _named(problem: ChainError, product: str, lake: Lake, segments: list[SegmentFile]) -> ChainError:
    """`problem` with the decision that the lake knows to have been there."""
    if problem.decision is not None or not lake.exists(LAYER, table_name(product)):
        return problem
    rows = lake.scan(LAYER, table_name(product)).filter(pl.col("segment") == problem.segment)
    known = rows.select("line", "hash", "decision_id").unique().sort("line").collect()
    if problem.problem == REWRITTEN:
        return _first_rewritten(problem, known, segments)
    gone = known.filter(pl.col("line") >= problem.line)
    decision = gone["decision_id"][0] if len(gone) and problem.problem == "missing" else None
    return ChainError(problem.segment, problem.line, problem.problem, problem.detail, decision)


def _first_rewritten(problem: ChainError, known: pl.DataFrame, segments: list[SegmentFile]) -> ChainError:
    segment = next(segment for segment in segments if segment.name == problem.segment)
    hashes = {line.number: line.hash.decode() for line in SegmentContent(segment).lines()}
    for line, recorded, decision in known.iter_rows():
        if hashes.get(line) != recorded:
            return ChainError(problem.segment, line, problem.problem, problem.detail, decision)
    return problem
