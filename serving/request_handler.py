"""From a request to its reply: which path it is of, who may ask, what it asks, and how a failure is told."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

import orjson

from configs.products import ModelProduct
from serving.access import Access, AccessError, Caller
from serving.admission import Admission
from serving.answering import Answering, Asked
from serving.inference_service import Reply
from serving.messages import Question, RequestReader
from serving.observation import Observer
from serving.online_views import row_count
from serving.problems import Problem
from serving.scopes import EXPLAIN, PREDICT, TRAIN
from serving.training_call import TrainingCall

logger = logging.getLogger("ray.serve")
_JSON, _PROBLEM = {"content-type": "application/json"}, {"content-type": "application/problem+json"}
Read = Callable[[], Awaitable[bytes]]
"""Reads a request's body. Raises Problem."""


class RequestHandler:
    """Replies to the requests of one product's replica."""

    def __init__(
        self,
        product: ModelProduct,
        access: Access,
        answering: Answering,
        observer: Observer,
        describe: Callable[[], Mapping[str, Any]],
        training: TrainingCall,
    ) -> None:
        """`describe` says what `/model` replies: the model, its digest, a version that was refused."""
        self._product, self._access, self._observer, self._describe = product, access, observer, describe
        self._training = training
        reader = RequestReader(product)
        self._readers: dict[str, Callable[[bytes], Question]] = {"predict": reader.read}
        if product.task == "ranking":
            self._readers["rank"] = reader.read_ranking
        self._admission = Admission(answering, lambda asked: row_count(asked.question.rows), product.endpoint)

    async def handle(self, method: str, path: str, headers: Mapping[str, str], read: Read) -> Reply:
        """The reply to a request; `path` is what follows the product's route. Every failure is a problem document."""
        action = path.removeprefix("/")
        try:
            if action in self._readers:
                _require(method, "POST")
                return await self._ask(action, headers, read)
            if action == "train":
                _require(method, "POST")
                caller = self._admit(headers, TRAIN)
                return await self._training.take(caller, await read())
            return self._tell(method, path, headers)
        except (Problem, AccessError) as refusal:
            return _problem(_as_problem(refusal))

    async def call(self, action: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The reply to what another application asks in a caller's name."""

        async def read() -> bytes:
            return body

        return await self.handle("POST" if action in self._readers else "GET", f"/{action}", headers, read)

    def _tell(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        if path == "/model":
            _require(method, "GET")
            self._admit(headers, PREDICT)
            return _json(self._describe())
        if path in ("/health", "/ready"):
            _require(method, "GET")
            return _json({"status": "ok", "model": self._describe()["model"]})
        known = ", ".join([*(f"/{name}" for name in self._readers), "/train", "/model", "/health", "/ready"])
        raise Problem(404, "Not Found", f"There is no such path here. Known: {known}.")

    async def _ask(self, action: str, headers: Mapping[str, str], read: Read) -> Reply:
        """The reply to a question."""
        asked = Asked(headers.get("traceparent"), perf_counter())
        self._observer.began()
        try:
            return Reply(200, _JSON, await self._answer(action, headers, read, asked))
        except (Problem, AccessError) as refusal:
            problem = _as_problem(refusal)
        except Exception:
            # The edge of the server: a bug is logged with its trace, and the caller learns no more than that.
            logger.exception("a request to %s failed", self._product.name)
            problem = Problem(500, "Internal Server Error", "The request could not be answered; see the log.")
        finally:
            self._observer.ended()
        self._observer.refused(problem, asked.caller, asked.stages | {"total": asked.elapsed}, asked.traceparent)
        return _problem(problem)

    async def _answer(self, action: str, headers: Mapping[str, str], read: Read, asked: Asked) -> bytes:
        caller = self._admit(headers, PREDICT)
        asked.caller = f"{caller.kind}:{caller.id}"
        asked.passed("access")
        body = await read()
        self._admission.check()
        asked.question = self._readers[action](body)
        if asked.question.explain:
            self._admit(headers, EXPLAIN, cost=0)
        asked.passed("parse")
        answer = await self._admission.ask(asked)
        if isinstance(answer, Problem):
            raise answer
        return answer

    def _admit(self, headers: Mapping[str, str], action: str, cost: int = 1) -> Caller:
        authorization, key = headers.get("authorization"), headers.get("x-api-key")
        return self._access.admit(authorization, key, self._product.name, action, cost)


def _as_problem(refusal: Problem | AccessError) -> Problem:
    if isinstance(refusal, Problem):
        return refusal
    return Problem(refusal.status, refusal.title, refusal.detail, headers=refusal.headers)


def _require(method: str, wanted: str) -> None:
    if method != wanted:
        raise Problem(405, "Method Not Allowed", f"Use {wanted}.", headers={"Allow": wanted})


def _problem(problem: Problem) -> Reply:
    return Reply(problem.status, _PROBLEM | problem.headers, problem.body())


def _json(content: Mapping[str, Any]) -> Reply:
    return Reply(200, _JSON, orjson.dumps(content))
