"""The only place that binds a Ray Serve application: `serving.app:build`, one for each product."""

import logging
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from configs.clock import build_clock
from configs.environments import SystemClock
from configs.load import load_environment, load_project
from serving.access import build_access
from serving.answering import Answering
from serving.bodies import read_body
from serving.decision_log import open_decision_log
from serving.exchanges import ReplyResponse, header_fields
from serving.observation import Observer
from serving.predictor import build_predictor
from serving.request_handler import RequestHandler
from serving.scoring import ModelFileError
from serving.training_call import TrainingCall
from serving.training_requests import TrainingRequests

logger = logging.getLogger("ray.serve")


class AppArgs(BaseModel):
    """Arguments of an application: which product, in which environment (a name or a path)."""

    product: str
    environment: str
    code: str = ""
    """Not read: Serve starts new replicas when an argument changes, so new code comes as a new argument."""


class ServedModel(BaseModel):
    """The part of `user_config` that names the version to answer with; without a version, the baseline."""

    version: int | None = None
    digest: str | None = None


class ProductEndpoint:
    """One replica: answers requests of one product."""

    def __init__(self, args: AppArgs) -> None:
        project, environment = load_project(), load_environment(args.environment)
        self._product = product = project.products[args.product]
        self._predictor = build_predictor(project, environment, product)
        self._access = build_access(environment)
        self._access.start()
        replica = serve.get_replica_context().replica_id.unique_id
        self._log = open_decision_log(project, environment, product, replica)
        self._observer = Observer(environment, product)
        answering = Answering(product.name, self._predictor, self._log, self._observer)
        inbox = TrainingRequests(environment.training_requests_folder)
        training = TrainingCall(product.name, inbox, build_clock(SystemClock(kind="system")).now)
        self._handler = RequestHandler(product, self._access, answering, self._observer, self._describe, training)
        self._is_answering = False
        self._refused: str | None = None

    def __del__(self) -> None:
        """Called by Serve once nothing is in hand."""
        self._observer.close()
        self._access.close()
        self._log.close()

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called at start and whenever the declared version changes.

        A replica that answers already keeps its version when the new one cannot be used: if this raised, Serve would
        end it. At start it raises, and Serve keeps the replicas of before.
        """
        served = ServedModel.model_validate(user_config)
        try:
            self._predictor.use(served.version, served.digest)
        except ModelFileError as error:
            if not self._is_answering:
                raise
            logger.error("version %s is refused: %s", served.version, error)  # noqa: TRY400 - our own error, no trace
            self._refused = str(error).splitlines()[0]
        else:
            self._refused = None
            self._is_answering = True
            self._observer.serves(served.version)

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request."""
        scope, headers, endpoint = request.scope, header_fields(request), self._product.endpoint
        path = scope["path"].removeprefix(self._product.route)
        return ReplyResponse(
            await self._handler.handle(
                scope["method"],
                path,
                headers,
                lambda: read_body(headers, request.receive, endpoint.max_body_bytes, endpoint.body_seconds),
            )
        )

    async def call(self, action: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Answer what another application asks in a caller's name: status, headers and body."""
        reply = await self._handler.call(action, headers, body)
        return reply.status, dict(reply.headers), reply.body

    def _describe(self) -> dict[str, Any]:
        refused = {"refused": self._refused} if self._refused else {}
        return {"model": self._predictor.description, "digest": self._predictor.digest} | refused


def build(args: AppArgs) -> serve.Application:
    """The application of one product. How its replicas run stands in the declaration: see deploy.py."""
    deployment: Any = serve.deployment(ProductEndpoint, name=args.product)
    return cast(serve.Application, deployment.bind(args))
