"""The only place that binds a Ray Serve application: `serving.app:build`, one for each product."""

import logging
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Any, cast

import orjson
from pydantic import BaseModel
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from configs.load import load_environment, load_project
from serving.batching import MicroBatcher
from serving.messages import RequestReader, predictions_body
from serving.problems import Problem
from serving.online_features import OnlineStoreError
from serving.online_views import row_count
from serving.predictor import Answer, Columns, build_predictor
from serving.scoring import ModelFileError

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
    """One replica: answers HTTP requests of one product."""

    def __init__(self, args: AppArgs) -> None:
        project, environment = load_project(), load_environment(args.environment)
        product = project.products[args.product]
        self._predictor = build_predictor(project, environment, product)
        self._reader = RequestReader(product)
        self._batcher = MicroBatcher(self._predict_all, row_count, product.endpoint.max_instances)
        self._route = product.route
        self._is_answering = False
        self._refused: str | None = None

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

    async def __call__(self, request: Request) -> Response:
        """Route one request. Every failure is a problem document, never a stack trace."""
        try:
            return await self._answer(request.method, request.url.path.removeprefix(self._route), request)
        except Problem as problem:
            return _problem(problem)
        except Exception:
            # The edge of the server: a bug is logged with its trace, and the caller learns no more than that.
            logger.exception("%s %s failed", request.method, request.url.path)
            return _problem(Problem(500, "Internal Server Error", "The request could not be answered; see the log."))

    async def _answer(self, method: str, path: str, request: Request) -> Response:
        if path == "/predict":
            _require(method, "POST")
            return await self._predict(await request.body())
        if path == "/model":
            _require(method, "GET")
            refused = {"refused": self._refused} if self._refused else {}
            return _json({"model": self._predictor.description, "digest": self._predictor.digest} | refused)
        if path in ("/health", "/ready"):
            _require(method, "GET")
            return _json({"status": "ok", "model": self._predictor.description})
        raise Problem(404, "Not Found", f"There is no {path or '/'} here. Known: /predict, /model, /health, /ready.")

    async def _predict(self, body: bytes) -> Response:
        question = self._reader.read(body)
        try:
            answer = await self._batcher.ask(question.rows)
        except OnlineStoreError as error:
            raise Problem(503, "Service Unavailable", str(error).splitlines()[0]) from error
        return Response(predictions_body(answer, ""), media_type="application/json")

    def _predict_all(self, requests: Sequence[Columns]) -> list[Answer]:
        """Answers requests that wait at the same moment, as one set of rows."""
        if len(requests) == 1:
            return [self._predictor.predict(requests[0])]
        names = requests[0].keys()
        rows = {name: list(chain.from_iterable(request[name] for request in requests)) for name in names}
        answer = self._predictor.predict(rows)
        ends = list(accumulate(map(row_count, requests)))
        return [answer.part(start, end) for start, end in pairwise([0, *ends])]


def _require(method: str, wanted: str) -> None:
    if method != wanted:
        raise Problem(405, "Method Not Allowed", f"Use {wanted}.")


def _problem(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, media_type="application/problem+json")


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def build(args: AppArgs) -> serve.Application:
    """The application of one product; its replicas autoscale within the limits of the product's file."""
    endpoint = load_project().products[args.product].endpoint
    deployment: Any = serve.deployment(
        ProductEndpoint,
        name=args.product,
        max_ongoing_requests=endpoint.max_ongoing_requests,
        max_queued_requests=endpoint.max_queued_requests,
        autoscaling_config={
            "min_replicas": endpoint.min_replicas,
            "max_replicas": endpoint.max_replicas,
            "target_ongoing_requests": endpoint.target_ongoing_requests,
            "downscale_delay_s": 60,
        },
        ray_actor_options={"num_cpus": 0.5},
        user_config={},
        graceful_shutdown_timeout_s=10,
        health_check_period_s=5,
    )
    return cast(serve.Application, deployment.bind(args))
