"""The decision log's format: what a decision is, and how it becomes a line that is chained to the one before.

A segment is a text file of lines `HASH PAYLOAD`. HASH is SHA-256, in hexadecimal, of the former line's HASH and the
PAYLOAD. The first key of a payload says what it is:

- `header`: the segment's first line: format, product, replica, sequence, the request's types, and `previous`, the hash
  that the segment before ended with;
- `context`: what many decisions share, told once in a segment: model, variant, the names of features and views;
- `decision`: an answered request. Behind the JSON stands the matrix that the model saw, as base64 of its
  little-endian float64 values;
- `footer`: the last line of a segment that was closed.

Nothing is written here: see decision_log.py. Nor are files read: see decision_segments.py.
"""

import hashlib
import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from configs.errors import MlwayError
from serving.decision_privacy import NOTHING_HIDDEN, Privacy

FORMAT = 1
HASH_LENGTH = 64
GENESIS = b"0" * HASH_LENGTH
"""What the first segment of a replica follows."""
_FLOAT = "$float64"
"""Marks a float that JSON has no number for."""


class DecisionLogError(MlwayError):
    """A decision cannot be recorded, or what was recorded cannot be read."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One answered request. Times are microseconds since 1970; lists hold an item for each row of the request."""

    id: str
    at: int
    """The clock's moment: features are as of this."""
    answered_at: int
    """The machine's time."""
    product: str
    model: dict[str, Any]
    """`name` and `version`, or the name `baseline`."""
    digest: str | None
    variant: str
    caller: str
    requests: list[dict[str, Any]]
    """The request's fields. Offsets of timestamps are whole minutes."""
    features: Sequence[str]
    """Names of the model's features in order; none of the baseline."""
    vectors: Sequence[Sequence[Any]] | NDArray[np.float64]
    """The matrix that the model saw: float64, NaN where a value is missing."""
    ages: Mapping[str, Sequence[float | None]]
    """Feature view to seconds, which are finite."""
    missing: list[list[str]]
    scores: list[Any]
    degraded: list[str]
    latency_microseconds: int
    cache_hits: int


Payload = tuple[bytes, ...]
"""A payload that is yet to be joined: copying a long one takes longer than hashing it."""


class Context(NamedTuple):
    """What decisions share. `features` are those logged, `hidden` those that the model saw too."""

    number: int
    model: dict[str, Any]
    digest: str | None
    variant: str
    features: tuple[str, ...]
    views: tuple[str, ...]
    hidden_fields: tuple[str, ...] = ()
    hidden_features: tuple[str, ...] = ()

    def fits(self, decision: Decision, privacy: Privacy = NOTHING_HIDDEN) -> bool:
        """Whether `decision` can be written in this context."""
        features = tuple(decision.features)
        if privacy.features:
            features = tuple(name for name in features if name not in privacy.features)
        return (
            self.features == features
            and self.digest == decision.digest
            and self.model == decision.model
            and self.variant == decision.variant
            and self.views == tuple(decision.ages)
        )


class Record(NamedTuple):
    """A decision as logged, and what of it was hidden: left out, or kept as hashes."""

    decision: Decision
    hidden_fields: tuple[str, ...]
    hidden_features: tuple[str, ...]
    hashes: list[dict[str, dict[str, str]]]
    """For each row `fields` and `features` by name; none where hidden parts were left out."""


def line_hash(previous: bytes, *payload: bytes) -> bytes:
    """The hash of a line behind one whose hash is `previous`."""
    digest = hashlib.sha256(previous)
    for part in payload:
        digest.update(part)
    return digest.hexdigest().encode()


def encode_header(product: str, replica: str, sequence: int, request: Mapping[str, str], previous: bytes) -> bytes:
    """Payload of a segment's first line."""
    named = {"product": product, "replica": replica, "sequence": sequence, "request": dict(request)}
    return orjson.dumps({"header": FORMAT, **named, "previous": previous.decode()})


def encode_footer(line: int, decisions: int) -> bytes:
    """Payload of the last line of a closed segment."""
    return orjson.dumps({"footer": line, "decisions": decisions})


def encode_context(context: Context, line: int) -> bytes:
    """Payload of a context's line."""
    told = context._asdict()
    return orjson.dumps({"context": told.pop("number"), "line": line, **told})


def new_context(number: int, decision: Decision, privacy: Privacy = NOTHING_HIDDEN) -> Context:
    """The context of `decision`."""
    return Context(
        number,
        dict(decision.model),
        decision.digest,
        decision.variant,
        tuple(name for name in decision.features if name not in privacy.features),
        tuple(decision.ages),
        tuple(sorted(privacy.fields)),
        tuple(name for name in decision.features if name in privacy.features),
    )


def encode_decision(
    decision: Decision,
    context: Context,
    line: int,
    privacy: Privacy = NOTHING_HIDDEN,
    *,
    may_hold_floats: bool = True,
) -> Payload:
    """Payload of a decision's line. Raises DecisionLogError where the decision contradicts itself.

    Requests that `may_hold_floats` are looked through for such as JSON does not know.
    """
    matrix: Any = decision.vectors
    if not (type(matrix) is np.ndarray and matrix.dtype.str == "<f8"):
        matrix = np.asarray(matrix, dtype="<f8")
    rows = len(decision.requests)
    if matrix.size != rows * len(decision.features) or len(decision.scores) != rows:
        raise DecisionLogError(
            f"Decision {decision.id} has {rows} rows, {len(decision.scores)} scores and {matrix.size} values of "
            f"{len(decision.features)} features.\nHint: this is a bug of the endpoint."
        )
    requests = decision.requests
    content = {
        "decision": decision.id,
        "line": line,
        "context": context.number,
        "at": decision.at,
        "answered_at": decision.answered_at,
        "caller": decision.caller,
        "latency": decision.latency_microseconds,
        "cache_hits": decision.cache_hits,
        "degraded": decision.degraded,
        "missing": decision.missing,
    }
    if privacy.hides_anything:
        requests = [privacy.visible_fields(request) for request in requests]
        if hashes := privacy.hashes(decision.requests, decision.features, matrix):
            content["hashes"] = hashes
        matrix = privacy.visible_columns(decision.features, matrix)
    try:
        content["ages"] = list(decision.ages.values())
        content["scores"] = _exact(decision.scores, _score_nulls)
        content["requests"] = _exact(requests, _request_nulls) if may_hold_floats else requests
        text = orjson.dumps(content)
    except orjson.JSONEncodeError as error:
        raise DecisionLogError(
            f"Decision {decision.id} holds what cannot be logged: {error}.\nHint: this is a bug of the endpoint."
        ) from error
    return text, b" ", b2a_base64(np.ascontiguousarray(matrix).data, newline=False)


def decode_context(payload: bytes) -> Context:
    """A context from its payload."""
    content = orjson.loads(payload)
    number, _ = content.pop("context"), content.pop("line")
    lists = {name: tuple(content[name]) for name in ("features", "views", "hidden_fields", "hidden_features")}
    return Context(**{**content, **lists, "number": number})


def split_decision(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object of a decision's payload, and the base64 text of its matrix."""
    text, _, matrix = payload.rpartition(b" ")
    content = orjson.loads(text)
    return (_restored(content) if _FLOAT.encode() in text else content), matrix


def decode_decision(payload: bytes, header: Mapping[str, Any], contexts: Mapping[int, Context]) -> Record:
    """A decision from its payload, every value to the bit; its matrix is an array of rows by visible features."""
    content, matrix = split_decision(payload)
    context = contexts[content["context"]]
    requests = [_with_moments(request, header["request"]) for request in content["requests"]]
    vectors = np.frombuffer(a2b_base64(matrix), dtype="<f8").reshape(len(requests), len(context.features))
    decision = Decision(
        id=content["decision"],
        at=content["at"],
        answered_at=content["answered_at"],
        product=header["product"],
        model=context.model,
        digest=context.digest,
        variant=context.variant,
        caller=content["caller"],
        requests=requests,
        features=context.features,
        vectors=vectors,
        ages=dict(zip(context.views, content["ages"], strict=True)),
        missing=content["missing"],
        scores=content["scores"],
        degraded=content["degraded"],
        latency_microseconds=content["latency"],
        cache_hits=content["cache_hits"],
    )
    return Record(decision, context.hidden_fields, context.hidden_features, content.get("hashes", []))


def _with_moments(request: dict[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    for name, kind in types.items():
        value = request.get(name)
        if kind == "timestamp" and value is not None:
            request[name] = datetime.fromisoformat(value)
    return request


def _exact(value: list[Any], count_nones: Callable[[list[Any]], int]) -> orjson.Fragment:
    """JSON, in which a float that is not finite is marked. orjson would make it null, as it does with None."""
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in text and text.count(b"null") != count_nones(value):
        text = orjson.dumps(_marked(value))
    return orjson.Fragment(text)


def _score_nulls(scores: list[Any]) -> int:
    return sum(score is None for score in scores)


def _request_nulls(requests: list[dict[str, Any]]) -> int:
    return sum(list(request.values()).count(None) for request in requests)


def _marked(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return {_FLOAT: struct.pack("<d", value).hex()}
    if isinstance(value, dict):
        return {name: _marked(item) for name, item in value.items()}
    return [_marked(item) for item in value] if isinstance(value, list) else value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_FLOAT}:
            return struct.unpack("<d", bytes.fromhex(value[_FLOAT]))[0]
        return {name: _restored(item) for name, item in value.items()}
    return [_restored(item) for item in value] if isinstance(value, list) else value
