"""Which requests are traced, and what of them: one span for the request, one for each of its stages.

Nothing here imports OpenTelemetry: an environment without traces pays nothing. Spans are made and sent by another
thread, see otlp_spans.py.
"""

import random
import re
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from configs.telemetry import Telemetry

if TYPE_CHECKING:
    from serving.otlp_spans import SpanSender

MOST_PENDING = 2_000
"""Traced requests that wait for the other thread, at most; further ones are not traced."""
TOTAL = "total"
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LONGEST_TRACEPARENT = 512


class Parent(NamedTuple):
    """The caller's span."""

    trace_id: int
    span_id: int
    is_sampled: bool


class TracedRequest(NamedTuple):
    """What spans are made of. The stages came one after the other, and the last ended when the request did."""

    trace_id: int
    parent_id: int | None
    ended_at_nanoseconds: int
    stages: Mapping[str, float]
    status: int
    attributes: Mapping[str, str | int]


def parse_traceparent(header: str | None) -> Parent | None:
    """The caller's span by W3C Trace Context; None where the header is missing or not valid."""
    if not header or len(header) > _LONGEST_TRACEPARENT:
        return None
    match = _TRACEPARENT.fullmatch(header.strip())
    if match is None or (match[1] == "00" and match[5] is not None):
        return None
    return Parent(int(match[2], 16), int(match[3], 16), bool(int(match[4], 16) & 1))


class RequestTracer:
    """The tracer of one product in one replica."""

    def __init__(self, telemetry: Telemetry, sender: "SpanSender") -> None:
        self._share = telemetry.sample_share
        self._sender = sender
        self._pending: deque[TracedRequest] = deque()

    def request(
        self,
        *,
        traceparent: str | None,
        stages: Mapping[str, float],
        status: int,
        decision_id: str | None = None,
        rows: int | None = None,
        model_version: int | None = None,
    ) -> str | None:
        """A request was answered or refused just now. Gives the trace's id for the request log, if there is one.

        `stages` are seconds, in their order, and `total`. A caller that sends a `traceparent` decides whether the
        request is traced; of others the declared share is.
        """
        parent = parse_traceparent(traceparent)
        if parent is None and random.random() >= self._share:  # noqa: S311 - a sample, not a secret
            return None
        trace_id = random.getrandbits(128) or 1 if parent is None else parent.trace_id
        if (parent is None or parent.is_sampled) and len(self._pending) < MOST_PENDING:
            named = {"decision_id": decision_id, "rows": rows, "model_version": model_version}
            attributes = {f"mlway.{name}": value for name, value in named.items() if value is not None}
            parent_id = None if parent is None else parent.span_id
            self._pending.append(TracedRequest(trace_id, parent_id, time.time_ns(), stages, status, attributes))
        return f"{trace_id:032x}"

    def send(self) -> None:
        """Make spans of what is queued and hand them to the exporter; background.Periodic calls this."""
        for _ in range(len(self._pending)):
            self._sender.send(self._pending.popleft())

    def close(self) -> None:
        """Send everything; waits for the collector."""
        self.send()
        self._sender.close()


def build_tracer(telemetry: Telemetry, product: str) -> RequestTracer | None:
    """The tracer that an environment declares; None where it declares none."""
    if telemetry.traces == "none" or telemetry.endpoint is None:
        return None
    from serving.otlp_spans import SpanSender

    return RequestTracer(telemetry, SpanSender(telemetry.endpoint, product))
