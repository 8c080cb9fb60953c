"""An endpoint that is asked all the while: what it answers and what it fails is counted, and what breaks is told."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from mlway_assets.endpoint_load import EndpointLoad
from mlway_assets.local.process_manager import wait_until

ANSWERS: list[tuple[int, dict[str, Any]]] = [
    (200, {"model": {"name": "shop", "version": 3}}),
    (503, {"title": "busy"}),
    (200, {"model": {"name": "baseline"}}),
    (200, {"model": {"name": "shop", "version": 3}}),
]


class Endpoint(BaseHTTPRequestHandler):
    """Answers one after the other, then closes connections without a word."""

    asked: list[tuple[str | None, Any]] = []

    def do_POST(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.headers["Authorization"], json.loads(body)))
        if len(self.asked) > len(ANSWERS):
            self.close_connection = True
            return
        status, content = ANSWERS[len(self.asked) - 1]
        told = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Endpoint.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/shop/predict"
    server.shutdown()
    thread.join()
    server.server_close()


def test_answers_are_counted_by_version_and_failures_with_what_was_said(url: str) -> None:
    bodies = iter([None, *({"instances": [number]} for number in range(100))])
    with EndpointLoad(url, "secret", lambda: next(bodies)) as load:
        assert wait_until(lambda: len(load.answers.failed) >= 2, 20)
    assert load.answers.by_version == {"3": 2, "baseline": 1}
    assert load.answers.answered == 3
    assert load.answers.failed[0] == '503: {"title": "busy"}'
    assert "RemoteProtocolError" in load.answers.failed[1]
    assert 0 < load.answers.longest_seconds < 20
    assert Endpoint.asked[0] == ("Bearer secret", {"instances": [0]}), "a moment without a request asks nothing"


def test_requests_that_cannot_be_made_are_not_a_quiet_endpoint(url: str) -> None:
    def broken() -> dict[str, Any]:
        raise KeyError("fact_flights")

    load = EndpointLoad(url, "secret", broken)
    load.__enter__()
    assert load._asking is not None
    assert wait_until(load._asking.done, 20)
    with pytest.raises(KeyError, match="fact_flights"):
        load.__exit__(None, None, None)
