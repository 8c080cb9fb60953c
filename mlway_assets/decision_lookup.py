"""Find one decision by its id: in the segments first, then in the lake."""

import mmap
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import polars as pl

from configs.errors import MlwayError
from mlway_assets.decision_table import AGE, FEATURE, LAYER, REQUEST, table_name
from mlway_assets.decision_verification import logged_products
from mlway_assets.resources import Platform
from serving.decision_records import Decision, Record
from serving.decision_segments import SegmentContent, SegmentFile, list_segments

_IDENTITY = re.compile(r"^([0-9A-Za-z-]{1,64})(?:\.(\d{1,6}))?$")


class UnknownDecisionError(MlwayError):
    """No decision has that id, or the one that has it lacks the row."""


@dataclass(frozen=True)
class FoundDecision:
    """A decision as logged, and where it was found."""

    record: Record
    place: str


def parse_identity(text: str) -> tuple[str, int | None]:
    """A decision's id, and the row where one is given behind a point. Raises UnknownDecisionError."""
    match = _IDENTITY.match(text)
    if match is None:
        raise UnknownDecisionError(f"{text!r} is no decision's id.\nHint: give it as answers do, or as ID.ROW.")
    return match[1], int(match[2]) if match[2] else None


def find_decision(identity: str, platform: Platform) -> FoundDecision:
    """The decision. Raises UnknownDecisionError, and ChainError where its record is not what was written."""
    products = logged_products(platform)
    for product in products:
        for segment in list_segments(platform.environment.decisions_folder, product):
            try:
                found = _in_segment(identity, segment)
            except FileNotFoundError:
                continue  # deleted since it was listed: the lake has it
            if found is not None:
                return found
    for product in products:
        found = _in_lake(identity, product, platform)
        if found is not None:
            return found
    raise UnknownDecisionError(
        f"No decision has the id {identity}: neither in {platform.environment.decisions_folder} nor in the lake.\n"
        f"Hint: is it of this environment, {platform.environment.name!r}? Looked through: {', '.join(products)}."
    )


def _in_segment(identity: str, segment: SegmentFile) -> FoundDecision | None:
    if segment.path.stat().st_size == 0:
        return None
    with segment.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(f'{{"decision":"{identity}"'.encode()) < 0:
            return None
    for logged in SegmentContent(segment).records():
        if logged.record.decision.id == identity:
            return FoundDecision(logged.record, f"segment {segment.name}, line {logged.line.number}")
    return None


def _in_lake(identity: str, product: str, platform: Platform) -> FoundDecision | None:
    table = table_name(product)
    if not platform.lake.exists(LAYER, table):
        return None
    version = platform.lake.version(LAYER, table)
    rows = platform.lake.scan(LAYER, table, version).filter(pl.col("decision_id") == identity).collect().sort("row")
    if rows.is_empty():
        return None
    return FoundDecision(_record(rows, product), f"lake, {LAYER}/{table} version {version}")


def _record(rows: pl.DataFrame, product: str) -> Record:
    """A record from its rows in the lake. A feature that is null there is hidden, or the model did not see it."""
    hidden = [orjson.loads(text) for text in rows["hidden"] if text is not None]
    names: dict[str, Any] = hidden[0] if hidden else {"fields": [], "features": []}
    features = [name for name in _columns(rows, FEATURE) if rows[FEATURE + name].null_count() == 0]
    fields = [name for name in _columns(rows, REQUEST) if name not in names["fields"]]
    matrix = rows.select(FEATURE + name for name in features).to_numpy() if features else np.empty((len(rows), 0))
    first = rows.row(0, named=True)
    version = {} if first["model_version"] is None else {"version": first["model_version"]}
    decision = Decision(
        id=first["decision_id"],
        at=rows["at"].to_physical()[0],
        answered_at=rows["answered_at"].to_physical()[0],
        product=product,
        model={"name": first["model_name"], **version},
        digest=first["model_digest"],
        variant=first["variant"],
        caller=first["caller"],
        requests=rows.select(pl.col(REQUEST + name).alias(name) for name in fields).to_dicts(),
        features=tuple(features),
        vectors=np.ascontiguousarray(matrix, dtype=np.float64),
        ages={view: rows[AGE + view].to_list() for view in _columns(rows, AGE)},
        missing=rows["missing"].to_list(),
        scores=[
            score if answer is None else orjson.loads(answer)
            for score, answer in zip(rows["score"], rows["answer"], strict=True)
        ],
        degraded=first["degraded"],
        latency_microseconds=first["latency_microseconds"],
        cache_hits=first["cache_hits"],
    )
    hashes = [found["hashes"] for found in hidden if "hashes" in found]
    return Record(decision, tuple(names["fields"]), tuple(names["features"]), hashes)


def _columns(rows: pl.DataFrame, prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in rows.columns if name.startswith(prefix)]
