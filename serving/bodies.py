"""Read a request's body, up to its limits: type, size and time."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from serving.problems import Problem

_JSON = ("application/json", "text/json")


async def read_body(request: Request, most_bytes: int, seconds: float) -> bytes:
    """The JSON body. Raises Problem: 415 for another type, 413 where it is too long, 408 where it does not come."""
    kind = request.headers.get("content-type", _JSON[0]).partition(";")[0].strip().lower()
    if kind not in _JSON and not kind.endswith("+json"):
        raise Problem(415, "Unsupported Media Type", "Send application/json.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "Unsupported Media Type", "Send the body as it is, without a content-encoding.")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise _too_long(most_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, most_bytes)
    except TimeoutError as error:
        raise Problem(408, "Request Timeout", f"The body did not come within {seconds:g} s.") from error
    except ClientDisconnect as error:
        raise Problem(400, "Bad Request", "The body ended before it was whole.") from error


async def _read(request: Request, most_bytes: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most_bytes:
            raise _too_long(most_bytes)
        parts.append(part)
    return b"".join(parts)


def _too_long(most_bytes: int) -> Problem:
    return Problem(413, "Content Too Large", f"A body may have {most_bytes} bytes.")
