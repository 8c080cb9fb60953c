"""Spans of requests that are over, sent in batches to an OpenTelemetry collector: protobuf over HTTP.

Headers such as a token, certificates and further attributes come from OpenTelemetry's own environment variables,
OTEL_EXPORTER_OTLP_TRACES_HEADERS among them.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, set_span_in_context

from serving.tracing import TOTAL, TracedRequest


class SpanSender:
    """Makes the spans of one product's requests. Sampling was decided before; every request given here is sent."""

    def __init__(self, endpoint: str, product: str) -> None:
        self._product = product
        self._ids = _ChosenIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": "mlway-serving", "mlway.product": product}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("mlway.serving")

    def send(self, request: TracedRequest) -> None:
        """One span for the request and, within it, one for each stage."""
        stages = {name: seconds for name, seconds in request.stages.items() if name != TOTAL}
        ended = request.ended_at_nanoseconds
        began = ended - _nanoseconds(request.stages.get(TOTAL, sum(stages.values())))
        span = self._tracer.start_span(
            f"predict {self._product}",
            self._parent_of(request),
            kind=SpanKind.SERVER,
            attributes={"http.response.status_code": request.status, **request.attributes},
            start_time=began,
        )
        within = set_span_in_context(span, Context())
        for (name, _), (start, end) in zip(stages.items(), pairwise(_edges(began, stages.values())), strict=True):
            self._tracer.start_span(name, within, start_time=start).end(end_time=end)
        if request.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(end_time=ended)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _parent_of(self, request: TracedRequest) -> Context:
        if request.parent_id is None:
            self._ids.next_trace_id = request.trace_id
            return Context()
        parent = SpanContext(request.trace_id, request.parent_id, True, TraceFlags(TraceFlags.SAMPLED))
        return set_span_in_context(NonRecordingSpan(parent), Context())


class _ChosenIds(RandomIdGenerator):
    """Gives a new trace the id that the request log already names. Used by one thread."""

    next_trace_id = 0

    def generate_trace_id(self) -> int:
        return self.next_trace_id


def _edges(began: int, seconds: Iterable[float]) -> Iterator[int]:
    """When each of the stages that follow one another starts, and when the last ends."""
    yield began
    for each in seconds:
        began += _nanoseconds(each)
        yield began


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
