"""Traces as a collector gets them: a real exporter sends to a real HTTP server."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from configs.telemetry import Telemetry
from serving import tracing
from serving.tracing import RequestTracer, build_tracer, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = {"access": 0.0001, "features": 0.0004, "score": 0.0002, "total": 0.001}


class Collector:
    """An OTLP endpoint that keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
                collector.keep(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    def keep(self, request: ExportTraceServiceRequest) -> None:
        for group in request.resource_spans:
            self.resources.append({pair.key: pair.value.string_value for pair in group.resource.attributes})
            self.spans += [span for scope in group.scope_spans for span in scope.spans]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1/traces"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def open_tracer(collector: Collector, share: float = 1.0) -> RequestTracer:
    telemetry = Telemetry(traces="otlp", endpoint=collector.endpoint, sample_share=share)
    tracer = build_tracer(telemetry, "flights")
    assert tracer is not None
    return tracer


def test_a_request_is_a_span_and_each_stage_a_span_within_it(collector: Collector) -> None:
    tracer = open_tracer(collector)
    trace_id = tracer.request(traceparent=None, stages=STAGES, status=200, decision_id="d1", rows=2, model_version=7)
    tracer.close()
    *stages, request = collector.spans
    assert [span.name for span in stages] == ["access", "features", "score"]
    assert request.name == "predict flights"
    assert {span.trace_id.hex() for span in collector.spans} == {trace_id}
    assert {span.parent_span_id for span in stages} == {request.span_id}
    assert request.parent_span_id == b""
    assert request.end_time_unix_nano - request.start_time_unix_nano == 1_000_000
    begins = [span.start_time_unix_nano - request.start_time_unix_nano for span in stages]
    ends = [span.end_time_unix_nano - request.start_time_unix_nano for span in stages]
    assert (begins, ends) == ([0, 100_000, 500_000], [100_000, 500_000, 700_000])
    found = {pair.key: pair.value.string_value or pair.value.int_value for pair in request.attributes}
    assert found == {
        "http.response.status_code": 200, "mlway.decision_id": "d1", "mlway.rows": 2, "mlway.model_version": 7,
    }  # fmt: skip
    assert collector.resources[0]["service.name"] == "mlway-serving"
    assert collector.resources[0]["mlway.product"] == "flights"


def test_the_callers_span_is_the_parent_and_its_sampling_decides(collector: Collector) -> None:
    tracer = open_tracer(collector, share=0)
    sampled = tracer.request(traceparent=f"00-{TRACE}-{SPAN}-01", stages=STAGES, status=200)
    unsampled = tracer.request(traceparent=f"00-{TRACE[::-1]}-{SPAN}-00", stages=STAGES, status=200)
    own = tracer.request(traceparent=None, stages=STAGES, status=200)
    tracer.close()
    assert (sampled, unsampled, own) == (TRACE, TRACE[::-1], None)
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert collector.spans[-1].parent_span_id.hex() == SPAN


def test_two_requests_are_two_traces_with_the_ids_that_were_given_back(collector: Collector) -> None:
    tracer = open_tracer(collector)
    given = [tracer.request(traceparent=None, stages=STAGES, status=200) for _ in range(2)]
    tracer.close()
    assert len(set(given)) == 2
    assert {span.trace_id.hex() for span in collector.spans} == set(given)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (422, 0), (503, 2)])
def test_a_failure_of_ours_is_an_error_and_a_refusal_is_none(collector: Collector, status: int, code: int) -> None:
    tracer = open_tracer(collector)
    tracer.request(traceparent=None, stages={"total": 0.001}, status=status)
    tracer.close()
    (span,) = collector.spans
    assert span.status.code == code


@pytest.mark.parametrize(
    "header",
    [
        None, "", "x", f"00-{TRACE}-{SPAN}", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-01\n00-{TRACE}-{SPAN}-01", "0" * 1_000_000, f"01-{TRACE}-{SPAN}-01-" + "x" * 1_000,
    ],
)  # fmt: skip
def test_a_traceparent_that_is_not_valid_is_as_none(header: str | None) -> None:
    assert parse_traceparent(header) is None


@pytest.mark.parametrize("header", [f"00-{TRACE}-{SPAN}-01", f" 00-{TRACE}-{SPAN}-03 ", f"cc-{TRACE}-{SPAN}-01-later"])
def test_a_valid_traceparent_of_this_or_a_later_version_is_read(header: str) -> None:
    assert parse_traceparent(header) == (int(TRACE, 16), int(SPAN, 16), True)


def test_what_waits_is_bounded(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST_PENDING", 3)
    tracer = open_tracer(collector)
    for _ in range(10):
        tracer.request(traceparent=None, stages={"total": 0.001}, status=200)
    tracer.close()
    assert len(collector.spans) == 3


def test_without_traces_nothing_of_opentelemetry_is_loaded() -> None:
    code = (
        "import sys; from configs.telemetry import Telemetry; from serving.tracing import build_tracer; "
        "assert build_tracer(Telemetry(), 'flights') is None; "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_traces_without_an_address_are_refused() -> None:
    with pytest.raises(ValidationError, match="`traces: otlp` needs `endpoint`"):
        Telemetry(traces="otlp")
