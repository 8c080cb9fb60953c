"""Read a request's body, up to its limits: type, size and time."""

import asyncio
from collections.abc import Mapping

from starlette.types import Receive

from serving.problems import Problem

_JSON = ("application/json", "text/json")


async def read_body(headers: Mapping[str, str], receive: Receive, most_bytes: int, seconds: float) -> bytes:
    """The JSON body. Raises Problem: 415 for another type, 413 where it is too long, 408 where it does not come."""
    kind = headers.get("content-type", _JSON[0])
    if kind != _JSON[0] and not _is_json(kind):
        raise Problem(415, "Unsupported Media Type", "Send application/json.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "Unsupported Media Type", "Send the body as it is, without a content-encoding.")
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise _too_long(most_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _read(receive, most_bytes)
    except TimeoutError as error:
        raise Problem(408, "Request Timeout", f"The body did not come within {seconds:g} s.") from error


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind in _JSON or kind.endswith("+json")


async def _read(receive: Receive, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "Bad Request", "The body ended before it was whole.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most_bytes:
            raise _too_long(most_bytes)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_long(most_bytes: int) -> Problem:
    return Problem(413, "Content Too Large", f"A body may have {most_bytes} bytes.")
