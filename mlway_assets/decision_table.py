"""Decisions as rows of a raw table: one for each row that was scored, with typed columns.

What the columns are called and how records fill them. Which records are written, and when: decision_compaction.py.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from configs.load import Project
from configs.products import ModelProduct
from feature_repo.column_types import POLARS_TYPES
from feature_repo.timestamps import UTC_MICROSECONDS
from serving.decision_records import Decision
from serving.decision_segments import LoggedRecord

LAYER = "raw"
REQUEST, FEATURE, AGE = "request_", "feature_", "age_"
"""Prefixes of columns, so that no name is taken twice."""
_FIXED: dict[str, Any] = {
    "event_day": pl.Date(),
    "decision_id": pl.String(),
    "row": pl.Int64(),
    "at": UTC_MICROSECONDS,
    "answered_at": UTC_MICROSECONDS,
    "model_name": pl.String(),
    "model_version": pl.Int64(),
    "model_digest": pl.String(),
    "variant": pl.String(),
    "caller": pl.String(),
    "score": pl.Float64(),
    "answer": pl.String(),
    "missing": pl.List(pl.String()),
    "degraded": pl.List(pl.String()),
    "latency_microseconds": pl.Int64(),
    "cache_hits": pl.Int64(),
    "hidden": pl.String(),
    "segment": pl.String(),
    "line": pl.Int64(),
    "hash": pl.String(),
}


class Located(NamedTuple):
    """A record and the segment that it stands in."""

    segment: str
    logged: LoggedRecord
    request: Mapping[str, str]
    """Types of the request's fields, as the segment's header has them."""


def table_name(product: str) -> str:
    """Name of the raw table."""
    return f"decisions_{product}"


def table_columns(project: Project, product: ModelProduct) -> dict[str, Any]:
    """Name to type of every column, as the product is declared now. Of former features there may be more.

    `request_NAME` are the request's fields, `feature_NAME` what the model saw as float64, `age_VIEW` the seconds since
    a feature view's values. `score` is the main number of the answer, `answer` the whole of it as JSON where it is more
    than a number. `hidden` is JSON: the personal data that is left out, with its hashes if there are any. A feature is
    null where the model did not see it, or it is hidden, and NaN where it saw nothing.
    """
    request = {f"{REQUEST}{name}": POLARS_TYPES[kind] for name, kind in product.population.request.items()}
    features = {f"{FEATURE}{name}": pl.Float64() for name in project.model_features(product)}
    ages = {f"{AGE}{group.name}": pl.Float64() for group in project.table_groups(product)}
    return {**_FIXED, **request, **features, **ages}


def decision_frame(located: Iterable[Located], columns: Mapping[str, Any]) -> pl.DataFrame:
    """The rows of some records, with at least `columns`."""
    alike: dict[Any, list[Located]] = defaultdict(list)
    for each in located:
        decision = each.logged.record.decision
        alike[(decision.features, tuple(decision.ages), tuple(each.request.items()))].append(each)
    frames = [pl.DataFrame(schema=dict(columns)), *(_frame(group) for group in alike.values())]
    return pl.concat(frames, how="diagonal").sort("segment", "line", "row")


def main_score(score: Any) -> float | None:
    """The number that ranks or decides, of an answer that may hold others beside it."""
    if isinstance(score, Mapping):
        return main_score(score.get("score"))
    return float(score) if isinstance(score, int | float) else None


def _frame(group: Sequence[Located]) -> pl.DataFrame:
    """The frame of records with the same features, views and types."""
    decisions = [each.logged.record.decision for each in group]
    counts = [len(decision.requests) for decision in decisions]
    places = np.repeat(np.arange(len(group)), counts)
    return pl.concat(
        [_of_decisions(group)[places], _of_rows(group), _requests(group), _features(decisions), _ages(decisions)],
        how="horizontal",
    )


def _of_decisions(group: Sequence[Located]) -> pl.DataFrame:
    rows = []
    for each in group:
        decision, line = each.logged.record.decision, each.logged.line
        model = decision.model
        rows.append(
            (
                decision.id,
                decision.at,
                decision.answered_at,
                model.get("name"),
                model.get("version"),
                decision.digest,
                decision.variant,
                decision.caller,
                decision.degraded,
                decision.latency_microseconds,
                decision.cache_hits,
                each.segment,
                line.number,
                line.hash.decode(),
            )
        )
    names = ["decision_id", "at", "answered_at", "model_name", "model_version", "model_digest", "variant", "caller"]
    names += ["degraded", "latency_microseconds", "cache_hits", "segment", "line", "hash"]
    moments = {"at": pl.Int64(), "answered_at": pl.Int64()}
    degraded = _texts("degraded", [row[8] for row in rows])
    frame = pl.DataFrame(
        [
            degraded if name == "degraded" else pl.Series(name, values, moments.get(name, _FIXED[name]))
            for name, values in zip(names, zip(*rows, strict=True), strict=True)
        ]
    )
    frame = frame.with_columns(pl.from_epoch(name, "us").dt.replace_time_zone("UTC") for name in moments)
    return frame.with_columns(pl.col("at").dt.date().alias("event_day"))


def _of_rows(group: Sequence[Located]) -> pl.DataFrame:
    rows: dict[str, list[Any]] = {name: [] for name in ("row", "score", "answer", "missing", "hidden")}
    for each in group:
        record = each.logged.record
        decision = record.decision
        rows["row"] += range(len(decision.requests))
        rows["score"] += map(main_score, decision.scores)
        rows["answer"] += [None if _is_number(score) else orjson.dumps(score).decode() for score in decision.scores]
        rows["missing"] += decision.missing
        rows["hidden"] += _hidden(each)
    missing = _texts("missing", rows.pop("missing"))
    return pl.DataFrame([missing, *(pl.Series(name, values, _FIXED[name]) for name, values in rows.items())])


def _texts(name: str, rows: list[list[str]]) -> pl.Series:
    """A column of lists. Polars itself makes a Series of every list, which takes longer than all the rest."""
    return pl.Series(name, pa.array(rows, pa.large_list(pa.large_string())))


def _is_number(score: Any) -> bool:
    return isinstance(score, int | float)


def _hidden(each: Located) -> list[str | None]:
    record = each.logged.record
    rows = len(record.decision.requests)
    if not record.hidden_fields and not record.hidden_features:
        return [None] * rows
    names = {"fields": record.hidden_fields, "features": record.hidden_features}
    if not record.hashes:
        return [orjson.dumps(names).decode()] * rows
    return [orjson.dumps({**names, "hashes": hashes}).decode() for hashes in record.hashes]


def _requests(group: Sequence[Located]) -> pl.DataFrame:
    types = group[0].request
    requests = list(chain.from_iterable(each.logged.record.decision.requests for each in group))
    return pl.DataFrame(
        [
            pl.Series(f"{REQUEST}{name}", [request.get(name) for request in requests], POLARS_TYPES[kind])
            for name, kind in types.items()
        ]
    )


def _features(decisions: Sequence[Decision]) -> pl.DataFrame:
    names = decisions[0].features
    if not names:
        return pl.DataFrame()
    matrix = np.concatenate([np.asarray(decision.vectors) for decision in decisions])
    return pl.DataFrame(
        [pl.Series(f"{FEATURE}{name}", np.ascontiguousarray(matrix[:, place])) for place, name in enumerate(names)]
    )


def _ages(decisions: Sequence[Decision]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            pl.Series(
                f"{AGE}{view}", list(chain.from_iterable(decision.ages[view] for decision in decisions)), pl.Float64
            )
            for view in decisions[0].ages
        ]
    )
