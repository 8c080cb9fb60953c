"""Decisions and logs for the tests of the decision log."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from configs.environments import Environment
from configs.load import PROJECT_ROOT, load_environment, load_project
from configs.products import ModelProduct
from serving.decision_log import Decision, DecisionLog, new_decision_id
from serving.decision_segments import LoggedRecord, SegmentContent, list_segments

PRODUCT = "flight_delay"
FEATURES = ("delay", "flights", "carrier_code")
VIEWS = ("aircraft", "route")
AT = datetime(2013, 10, 1, tzinfo=UTC)
REQUEST = {
    "carrier": "B6",
    "flight": 1016,
    "origin": "JFK",
    "dest": "BOS",
    "tailnum": None,
    "scheduled_departure": datetime(2013, 10, 1, 14, tzinfo=UTC),
}


def product() -> ModelProduct:
    return load_project().products[PRODUCT]


def decision(rows: int = 1, seed: int = 0, **changes: Any) -> Decision:
    """An answer with random numbers; `changes` replace its fields."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(rows, len(FEATURES)))
    vectors[0, 1] = np.nan
    fields: dict[str, Any] = {
        "id": new_decision_id(),
        "at": int(AT.timestamp()) * 1_000_000,
        "answered_at": time.time_ns() // 1000,
        "product": PRODUCT,
        "model": {"name": PRODUCT, "version": 1},
        "digest": "d" * 64,
        "variant": "champion",
        "caller": "key-1",
        "requests": [{**REQUEST, "flight": number} for number in range(rows)],
        "features": FEATURES,
        "vectors": vectors,
        "ages": {view: [None, *random.random(rows - 1).tolist()] for view in VIEWS},
        "missing": [["aircraft", "route"], *([] for _ in range(rows - 1))],
        "scores": random.random(rows).tolist(),
        "degraded": [],
        "latency_microseconds": 812,
        "cache_hits": 0,
    }
    return Decision(**(fields | changes))


def baseline(**changes: Any) -> Decision:
    """An answer of the baseline, which sees no features."""
    model = {"model": {"name": "baseline"}, "digest": None, "features": (), "vectors": [[]], "ages": {}}
    return decision(**(model | {"missing": [[]]} | changes))


def log_environment(state: Path, **decisions: Any) -> Environment:
    """The local environment with lake and decision log in `state`; `decisions` are settings of the log."""
    found = load_environment("local", PROJECT_ROOT / "configs")
    declared = {"folder": str(state / "decisions")} | decisions
    lake = found.lake.model_copy(update={"uri": str(state / "lake")})
    changed = {"state": state, "lake": lake, "decisions": found.decisions.model_copy(update=declared)}
    return found.model_copy(update=changed)


def write_log(folder: Path, count: int, replica: str = "r1", segment_bytes: int = 16_000_000) -> list[Decision]:
    """A log of `count` decisions that was closed."""
    log = DecisionLog(folder, product(), replica, segment_bytes=segment_bytes)
    made = [decision(seed=number) for number in range(count)]
    for each in made:
        log.append(each)
    log.close()
    return made


def read_log(folder: Path) -> list[LoggedRecord]:
    """Every record of the product's segments."""
    return [record for segment in list_segments(folder, PRODUCT) for record in SegmentContent(segment).records()]


def read_ids(folder: Path) -> list[str]:
    return [logged.record.decision.id for logged in read_log(folder)]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def rewrite(path: Path, lines: Sequence[bytes]) -> None:
    path.write_bytes(b"".join(lines))


def flip_byte(path: Path, line: int, place: int = 200) -> str:
    """Alter one byte of a line, counted from 1; gives the decision that stands there."""
    lines = lines_of(path)
    text = bytearray(lines[line - 1])
    identity = bytes(text).partition(b'{"decision":"')[2][:32].decode()
    text[place] ^= 1
    rewrite(path, [*lines[: line - 1], bytes(text), *lines[line:]])
    return identity
