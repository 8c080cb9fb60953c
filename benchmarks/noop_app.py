"""The least that Ray Serve can serve."""

from ray import serve
from starlette.requests import Request
from starlette.responses import Response


class Noop:
    """Answers everything with nothing."""

    async def __call__(self, _: Request) -> Response:
        """Two bytes."""
        return Response(b"ok")


def build(_: dict[str, str]) -> serve.Application:
    return serve.deployment(Noop).bind()
