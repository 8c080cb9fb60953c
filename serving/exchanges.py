"""One HTTP exchange of a replica: what of a request matters here, and a response without what frameworks add to it."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.inference_service import Reply


def header_fields(request: Request) -> dict[str, str]:
    """The headers by their names in lower case; of one that is repeated, the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}


class ReplyResponse(Response):
    """A reply on its way; its headers are encoded as they are."""

    def __init__(self, reply: Reply) -> None:
        headers = {"content-length": str(len(reply.body)), **reply.headers}
        self._start = {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        }
        self._body = {"type": "http.response.body", "body": reply.body}

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        """Send it."""
        await send(self._start)
        await send(self._body)
