"""The Serve application at `/`, for paths that no product claims: KServe V1, Open Inference Protocol V2, OpenAPI.

It converts and passes on; access, limits and answers are the products' own. What it gives out by itself, names of
models and of their request fields, is what lies in configs/, and no data.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import orjson
from pydantic import BaseModel
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from configs.load import load_project
from serving.bodies import read_body
from serving.deploy import GATEWAY
from serving.docs_page import docs_page
from serving.inference_service import (
    MAX_BODY_BYTES,
    SERVER_NAME,
    SERVER_VERSION,
    InferenceService,
    Reply,
    unprocessable,
)
from serving.open_inference import TensorError
from serving.open_inference_json import infer_body, read_infer_request
from serving.openapi import openapi_document
from serving.problems import Problem

CALL_SECONDS, BODY_SECONDS = 30, 10
_DOCS_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
logger = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as the routes see it."""

    words: Mapping[str, str | None]
    """`model` and `version` in the path."""
    headers: Mapping[str, str]
    body: bytes


Answers = Callable[[Asked], Awaitable[Response]]


class Gateway:
    """Routes HTTP requests to a service. Every failure is a problem document."""

    def __init__(self, service: InferenceService, document: dict[str, Any]) -> None:
        self._service = service
        self._document = orjson.dumps(document)
        self._page = docs_page(document)
        model = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
        routes: list[tuple[str, str, Answers]] = [
            ("POST", r"/v1/models/(?P<model>[^/]+):predict", self._v1_predict),
            ("GET", r"/v1/models", self._v1_list),
            ("GET", r"/v1/models/(?P<model>[^/:]+)", self._v1_ready),
            ("GET", r"/v2", self._server),
            ("GET", r"/v2/health/live", self._live),
            ("GET", r"/v2/health/ready", self._ready),
            ("GET", model, self._model),
            ("GET", model + "/ready", self._model_ready),
            ("POST", model + "/infer", self._infer),
            ("GET", r"/openapi\.json", self._openapi),
            ("GET", r"/docs", self._docs),
        ]
        self._routes = [(method, re.compile(path), answers) for method, path, answers in routes]

    async def answer(self, request: Request) -> Response:
        """The answer to one request."""
        try:
            return await self._answer(request)
        except TensorError as error:
            return _problem(unprocessable(error))
        except Problem as problem:
            return _problem(problem)
        except Exception:
            # The edge of the server: a bug is logged with its trace, and the caller learns no more than that.
            logger.exception("%s %r failed", request.method, request.scope["path"])
            detail = "The request could not be answered; see the log."
            return _problem(Problem(500, "Internal Server Error", detail))

    async def _answer(self, request: Request) -> Response:
        path: str = request.scope["path"]
        for method, pattern, answers in self._routes:
            if match := pattern.fullmatch(path):
                if request.method != method:
                    raise Problem(405, "Method Not Allowed", f"Use {method}.", headers={"Allow": method})
                headers = {name.lower(): value for name, value in request.headers.items()}
                body = (
                    await read_body(headers, request.receive, MAX_BODY_BYTES, BODY_SECONDS) if method == "POST" else b""
                )
                return await answers(Asked(match.groupdict(), headers, body))
        raise Problem(404, "Not Found", "There is nothing here. Known: /docs, /openapi.json, /v1/models, /v2.")

    async def _v1_predict(self, asked: Asked) -> Response:
        return _json(await self._service.predict(asked.words["model"] or "", asked.headers, asked.body))

    async def _v1_list(self, _: Asked) -> Response:
        return _json(orjson.dumps({"models": self._service.names}))

    async def _v1_ready(self, asked: Asked) -> Response:
        return await self._model_ready(asked)

    async def _server(self, _: Asked) -> Response:
        return _json(orjson.dumps({"name": SERVER_NAME, "version": SERVER_VERSION, "extensions": []}))

    async def _live(self, _: Asked) -> Response:
        return _json(b'{"live":true}')

    async def _ready(self, _: Asked) -> Response:
        if not await self._service.server_is_ready():
            raise _not_ready("A product's endpoint does not answer.")
        return _json(b'{"live":true,"ready":true}')

    async def _model(self, asked: Asked) -> Response:
        name, version = asked.words["model"] or "", asked.words["version"]
        return _json(orjson.dumps(asdict(await self._service.metadata(name, version, asked.headers))))

    async def _model_ready(self, asked: Asked) -> Response:
        name, version = asked.words["model"] or "", asked.words.get("version")
        if not await self._service.model_is_ready(name, version, asked.headers):
            raise _not_ready(f"The endpoint of {name} does not answer.")
        return _json(orjson.dumps({"name": name, "ready": True}))

    async def _infer(self, asked: Asked) -> Response:
        if "inference-header-content-length" in asked.headers:
            detail = "The binary tensor data extension is not supported. Hint: send JSON (binary_data=False)."
            raise Problem(415, "Unsupported Media Type", detail)
        request = read_infer_request(asked.body)
        name, version = asked.words["model"] or "", asked.words["version"]
        return _json(infer_body(await self._service.infer(name, version, asked.headers, request)))

    async def _openapi(self, _: Asked) -> Response:
        return _json(self._document)

    async def _docs(self, _: Asked) -> Response:
        return HTMLResponse(self._page, headers=_DOCS_HEADERS)


class ServeCalls:
    """Calls products through their Serve handles: `ProductEndpoint.call(action, headers, body)`."""

    def __init__(
        self, handle_of: Callable[[str], Any] = serve.get_app_handle, call_seconds: float = CALL_SECONDS
    ) -> None:
        self._handle_of = handle_of
        self._call_seconds = call_seconds
        self._handles: dict[str, Any] = {}

    async def __call__(self, product: str, action: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Raises Problem."""
        try:
            async with asyncio.timeout(self._call_seconds):
                return await self._twice(product, action, dict(headers), body)
        except TimeoutError as error:
            detail = f"{product} did not answer within {self._call_seconds:g} s."
            raise Problem(504, "Gateway Timeout", detail) from error
        except BackPressureError as error:
            raise _not_ready(f"{product} has more requests than it can queue.") from error
        except (RayError, RayServeException) as error:
            logger.warning("%s cannot be called: %s", product, type(error).__name__)
            raise _not_ready(f"The endpoint of {product} does not answer.") from error

    async def _twice(self, product: str, action: str, headers: dict[str, str], body: bytes) -> Reply:
        """A replica may die with a request in hand, and a prediction is safe to repeat."""
        try:
            return await self._once(product, action, headers, body)
        except RayActorError:
            return await self._once(product, action, headers, body)

    async def _once(self, product: str, action: str, headers: dict[str, str], body: bytes) -> Reply:
        if product not in self._handles:  # asks the controller, once
            self._handles[product] = await asyncio.to_thread(self._handle_of, product)
        return Reply(*await self._handles[product].call.remote(action, headers, body))


class GatewayArgs(BaseModel):
    """Arguments of the application."""

    code: str = ""
    """Not read: see AppArgs in app.py."""


class GatewayEndpoint:
    """One replica."""

    def __init__(self, args: GatewayArgs) -> None:  # noqa: ARG002 - see GatewayArgs.code
        project = load_project()
        self._gateway = Gateway(InferenceService(project, ServeCalls()), openapi_document(project))

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        return await self._gateway.answer(request)


def build(args: GatewayArgs) -> serve.Application:
    """The gateway's application. How its replicas run stands in the declaration: see deploy.py."""
    deployment: Any = serve.deployment(GatewayEndpoint, name=GATEWAY)
    return cast(serve.Application, deployment.bind(args))


def _not_ready(detail: str) -> Problem:
    return Problem(503, "Service Unavailable", detail, headers={"Retry-After": "1"})


def _problem(problem: Problem) -> Response:
    """RFC 9457's document, with the `error` that both protocols ask for."""
    content = orjson.dumps(orjson.loads(problem.body()) | {"error": problem.detail})
    return Response(content, problem.status, problem.headers, "application/problem+json")


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")
