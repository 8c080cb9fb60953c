"""HAProxy's configuration, as Ray writes it, gets what Ray has no settings for."""

import subprocess
from pathlib import Path

import pytest

from configs.products import Endpoint
from mlway_assets.local.haproxy import write_haproxy

CONFIGURATION = """global
    log 127.0.0.1:514 local0 info
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    timeout http-keep-alive 10s
    log global
    option httplog
    errorfile 502 {errors}
    errorfile 503 {errors}
frontend prometheus
    bind :{metrics}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    no log
frontend http_frontend
    bind 127.0.0.1:{port}
    log global
    acl is_http-late path_beg /late/
    use_backend http-late if is_http-late
    default_backend http-other
backend http-late
    timeout server 5s
    # Servers in this backend
    server SERVE_REPLICA_late-late-1 127.0.0.1:{replica} check observe layer4 error-limit 3 on-error mark-down
    server SERVE_REPLICA_late-late-2 127.0.0.1:{replica} check
    server fallback 127.0.0.1:{replica} check backup
backend http-other
    server SERVE_REPLICA_other-other-1 127.0.0.1:{replica} check
"""


@pytest.fixture
def edited(tmp_path: Path) -> list[str]:
    """The lines of a configuration that HAProxy was asked twice to check."""
    errors, configuration, program = tmp_path / "500.http", tmp_path / "haproxy.cfg", tmp_path / "haproxy"
    errors.write_text("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", encoding="utf-8")
    text = CONFIGURATION.format(errors=errors, metrics=19_999, port=19_998, replica=19_997)
    configuration.write_text(text, encoding="utf-8")
    write_haproxy(program, {"late": Endpoint(max_ongoing_requests=7, max_queued_requests=9, deadline_seconds=0.5)})
    for _ in range(2):
        subprocess.run([program, "-c", "-f", configuration], check=True, capture_output=True)
    return [line.strip() for line in configuration.read_text(encoding="utf-8").splitlines()]


def test_callers_keep_their_connections_longer_than_replicas_do(edited: list[str]) -> None:
    assert [line for line in edited if "keep-alive" in line] == ["timeout http-keep-alive 90s"]


def test_nothing_listens_but_on_this_machine(edited: list[str]) -> None:
    assert [line for line in edited if line.startswith("bind")] == ["bind 127.0.0.1:19999", "bind 127.0.0.1:19998"]


def test_a_replica_has_no_more_requests_than_it_takes_and_the_others_wait_so_long(edited: list[str]) -> None:
    servers = [line.split(" 127.0.0.1:19997 ")[1] for line in edited if line.startswith("server")]
    observed = "maxconn 7 check observe layer4 error-limit 3 on-error mark-down"
    assert servers == [observed, "maxconn 7 check", "check backup", "check"]
    [start, end] = edited.index("backend http-late"), edited.index("backend http-other")
    assert "timeout queue 500ms" in edited[start:end]
    [refusal] = [line for line in edited if line.startswith("http-request return status 503")]
    assert refusal.endswith("hdr Retry-After 1 if { avg_queue(http-late) gt 9 }")
    assert refusal in edited[start:end]


def test_its_own_refusal_is_a_problem_document(edited: list[str]) -> None:
    [own] = [line for line in edited if line.startswith("http-error status 503")]
    assert own.startswith("http-error status 503 content-type application/problem+json string '{")
    assert own.endswith("hdr Retry-After 1")


def test_replicas_watch_no_time_limit_and_nobody_gets_log_lines(edited: list[str]) -> None:
    place = edited.index("frontend http_frontend")
    assert edited[place + 2 : place + 4] == [
        "http-request set-header x-request-disconnect-disabled ?1",
        "http-request set-header x-request-timeout-seconds 0",
    ]
    assert "log 127.0.0.1:514 local0 notice" in edited
