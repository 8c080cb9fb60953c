"""The only place that binds a Ray Serve application: `serving.app:build`, one for each product."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise
from time import perf_counter, time_ns
from typing import Any, cast

import numpy as np
import orjson
from pydantic import BaseModel
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from configs.load import load_environment, load_project
from serving.access import AccessError, Caller, build_access
from serving.admission import Admission
from serving.bodies import read_body
from serving.decision_log import Decision, DecisionLogError, new_decision_id, open_decision_log
from serving.messages import Question, RequestReader, predictions_body, ranking_body
from serving.observation import Observer
from serving.online_features import OnlineStoreError, OnlineStoreUnavailableError
from serving.online_views import row_count
from serving.predictor import Answer, Columns, build_predictor
from serving.problems import Problem
from serving.scopes import EXPLAIN, PREDICT
from serving.scoring import ModelFileError

logger = logging.getLogger("ray.serve")
_JSON, _PROBLEM = "application/json", "application/problem+json"
_CHAMPION = "champion"


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
        reader = RequestReader(product)
        self._readers: dict[str, Callable[[bytes], Question]] = {"predict": reader.read}
        if product.task == "ranking":
            self._readers["rank"] = reader.read_ranking
        self._admission = Admission(self._predict_all, row_count, product.endpoint)
        self._access = build_access(environment)
        self._access.start()
        self._log = open_decision_log(
            project, environment, product, f"{serve.get_replica_context().replica_id.unique_id}"
        )
        self._observer = Observer(environment, product)
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
        endpoint = self._product.endpoint
        path = request.url.path.removeprefix(self._product.route)
        return await self._without_traces(
            self._route(
                request.method,
                path,
                request.headers,
                lambda: read_body(request, endpoint.max_body_bytes, endpoint.body_seconds),
            )
        )

    async def call(self, action: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Answer what another application asks in a caller's name: status, headers and body."""

        async def read() -> bytes:
            return body

        method = "POST" if action in self._readers else "GET"
        response = await self._without_traces(self._route(method, f"/{action}", headers, read))
        return response.status_code, dict(response.headers), bytes(response.body)

    async def _without_traces(self, answer: Awaitable[Response]) -> Response:
        """Every failure is a problem document, never a stack trace."""
        try:
            return await answer
        except Problem as problem:
            return _problem(problem)
        except AccessError as error:
            return _problem(_refusal(error))

    async def _route(
        self, method: str, path: str, headers: Mapping[str, str], read: Callable[[], Awaitable[bytes]]
    ) -> Response:
        action = path.removeprefix("/")
        if action in self._readers:
            _require(method, "POST")
            return await self._ask(action, headers, read)
        if path == "/model":
            _require(method, "GET")
            self._admit(headers, PREDICT)
            refused = {"refused": self._refused} if self._refused else {}
            return _json({"model": self._predictor.description, "digest": self._predictor.digest} | refused)
        if path in ("/health", "/ready"):
            _require(method, "GET")
            return _json({"status": "ok", "model": self._predictor.description})
        known = ", ".join([*(f"/{name}" for name in self._readers), "/model", "/health", "/ready"])
        raise Problem(404, "Not Found", f"There is no such path here. Known: {known}.")

    async def _ask(self, action: str, headers: Mapping[str, str], read: Callable[[], Awaitable[bytes]]) -> Response:
        """The answer to a question, which is in the decision log before it is sent."""
        asked = _Asked(headers.get("traceparent"), perf_counter())
        self._observer.began()
        try:
            return await self._answer(action, headers, read, asked)
        except AccessError as error:
            problem = _refusal(error)
        except Problem as found:
            problem = found
        except Exception:
            # The edge of the server: a bug is logged with its trace, and the caller learns no more than that.
            logger.exception("a request to %s failed", self._product.name)
            problem = Problem(500, "Internal Server Error", "The request could not be answered; see the log.")
        finally:
            self._observer.ended()
        self._observer.refused(problem, asked.caller, asked.stages | {"total": asked.elapsed}, asked.traceparent)
        return _problem(problem)

    async def _answer(
        self, action: str, headers: Mapping[str, str], read: Callable[[], Awaitable[bytes]], asked: "_Asked"
    ) -> Response:
        caller = self._admit(headers, PREDICT)
        asked.caller = f"{caller.kind}:{caller.id}"
        asked.passed("access")
        body = await read()
        self._admission.check()
        question = self._readers[action](body)
        if question.explain:
            self._admit(headers, EXPLAIN, cost=0)
        asked.passed("parse")
        try:
            answer = await self._admission.ask(question.rows)
        except OnlineStoreUnavailableError as error:
            raise _unavailable(str(error)) from error
        except OnlineStoreError as error:
            raise Problem(503, "Service Unavailable", str(error).splitlines()[0]) from error
        asked.stages |= answer.seconds
        decision = new_decision_id()
        body = _body(question, answer, decision)
        asked.began_stage = perf_counter()
        self._record(decision, asked, question, answer)
        asked.passed("log")
        stages = asked.stages | {"total": asked.elapsed}
        self._observer.answered(answer, decision, asked.caller, stages, asked.traceparent)
        return Response(body, media_type=_JSON)

    def _admit(self, headers: Mapping[str, str], action: str, cost: int = 1) -> Caller:
        authorization, key = headers.get("authorization"), headers.get("x-api-key")
        return self._access.admit(authorization, key, self._product.name, action, cost)

    def _predict_all(self, requests: Sequence[Columns]) -> list[Answer]:
        """Answers requests that wait at the same moment, as one set of rows."""
        if len(requests) == 1:
            return [self._predictor.predict(requests[0])]
        names = requests[0].keys()
        rows = {name: list(chain.from_iterable(request[name] for request in requests)) for name in names}
        answer = self._predictor.predict(rows)
        ends = list(accumulate(map(row_count, requests)))
        return [answer.part(start, end) for start, end in pairwise([0, *ends])]

    def _record(self, decision: str, asked: "_Asked", question: Question, answer: Answer) -> None:
        names = list(question.rows)
        record = Decision(
            id=decision,
            at=answer.at,
            answered_at=time_ns() // 1_000,
            product=self._product.name,
            model=answer.model,
            digest=answer.digest,
            variant=_CHAMPION,
            caller=asked.caller or "",
            requests=[dict(zip(names, row, strict=True)) for row in zip(*question.rows.values(), strict=True)],
            features=answer.features,
            vectors=np.empty((len(answer.scores), 0)) if answer.matrix is None else answer.matrix,
            ages={view: list(ages) for view, ages in (answer.ages or {}).items()},
            missing=answer.missing,
            scores=[score.score if score.lower is None else score._asdict() for score in answer.scores],
            degraded=list(answer.degraded),
            latency_microseconds=round(asked.elapsed * 1e6),
            cache_hits=sum(answer.hits),
        )
        try:
            self._log.append(record)
        except DecisionLogError as error:
            logger.error("no decision can be recorded: %s", error)  # noqa: TRY400 - our own error, no trace
            raise _unavailable("The decision could not be recorded, so it is not given.") from error


@dataclass(slots=True)
class _Asked:
    """What a request has come through so far."""

    traceparent: str | None
    began: float
    began_stage: float = field(init=False)
    caller: str | None = None
    stages: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began_stage = self.began

    def passed(self, stage: str) -> None:
        """The stage is over, and the next begins."""
        now = perf_counter()
        self.stages[stage], self.began_stage = now - self.began_stage, now

    @property
    def elapsed(self) -> float:
        """Seconds since it came."""
        return perf_counter() - self.began


def _refusal(error: AccessError) -> Problem:
    return Problem(error.status, error.title, error.detail, headers=error.headers)


def _body(question: Question, answer: Answer, decision: str) -> bytes:
    contributions: list[list[float]] | None = None
    if question.explain:
        if answer.scoring is None or answer.matrix is None:
            raise Problem(409, "Conflict", "The baseline answers, which has no features to explain it by.")
        contributions = answer.scoring.contributions(answer.matrix).tolist()
    if question.top is not None:
        return ranking_body(answer, decision, question.top, contributions)
    return predictions_body(answer, decision, contributions)


def _require(method: str, wanted: str) -> None:
    if method != wanted:
        raise Problem(405, "Method Not Allowed", f"Use {wanted}.", headers={"Allow": wanted})


def _unavailable(text: str) -> Problem:
    return Problem(503, "Service Unavailable", text.splitlines()[0], headers={"Retry-After": "1"})


def _problem(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, problem.headers, media_type=_PROBLEM)


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type=_JSON)


def build(args: AppArgs) -> serve.Application:
    """The application of one product; its replicas autoscale within the limits of the product's file."""
    endpoint = load_project().products[args.product].endpoint
    deployment: Any = serve.deployment(
        ProductEndpoint,
        name=args.product,
        max_ongoing_requests=endpoint.most_requests,  # admission.py decides: nobody times what waits in Serve
        max_queued_requests=endpoint.max_queued_requests,
        backpressure_config={"retry_after_s": 1},
        autoscaling_config={
            "min_replicas": endpoint.min_replicas,
            "max_replicas": endpoint.max_replicas,
            "target_ongoing_requests": endpoint.target_ongoing_requests,
            "downscale_delay_s": 60,
        },
        ray_actor_options={"num_cpus": endpoint.replica_cpus},
        user_config={},
        graceful_shutdown_timeout_s=10,
        health_check_period_s=5,
    )
    return cast(serve.Application, deployment.bind(args))
