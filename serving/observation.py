"""Tell of each request what people and machines watch: metrics, the request log, traces."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from configs.environments import Environment
from configs.products import ModelProduct
from serving.background import Periodic
from serving.logs import build_request_log
from serving.metrics import ServingMetrics
from serving.predictor import Answer
from serving.problems import Problem
from serving.ray_metrics import export_to_ray
from serving.tracing import build_tracer


class Answered(NamedTuple):
    """An answered request; `stages` are seconds, `total` among them."""

    decision: str
    caller: str
    rows: int
    stages: Mapping[str, float]
    traceparent: str | None


class Observer:
    """What one replica tells. What is told only queues; threads of its own add it up and write it."""

    def __init__(self, environment: Environment, product: ModelProduct) -> None:
        self._metrics = ServingMetrics(product.name, in_flight_limit=product.endpoint.max_ongoing_requests)
        self._log = build_request_log(environment, product.name)
        self._tracer = build_tracer(environment.telemetry, product.name)
        self._threads = [export_to_ray(self._metrics), Periodic("mlway-request-log", self._log.write)]
        if self._tracer:
            self._threads.append(Periodic("mlway-traces", self._tracer.send))
        self._in_flight = 0

    def began(self) -> None:
        """A request is in hand."""
        self._in_flight += 1
        self._metrics.in_flight(self._in_flight)

    def ended(self) -> None:
        """It no longer is."""
        self._in_flight -= 1
        self._metrics.in_flight(self._in_flight)

    def serves(self, version: int | None) -> None:
        """From now on this version answers."""
        self._metrics.serves(version)

    def answered(self, answer: Answer, requests: Sequence[Answered]) -> None:
        """Requests were answered together."""
        version = answer.model.get("version")
        self._metrics.answered(
            stages=[request.stages for request in requests],
            rows=len(answer.scores),
            scores=[score.score for score in answer.scores],
            ages=answer.ages,
            missing=answer.missing,
            cache_hits=sum(answer.hits),
            model_version=version,
            degraded=answer.degraded,
        )
        for request in requests:
            about: dict[str, Any] = {
                "decision_id": request.decision,
                "rows": request.rows,
                "model_version": version,
            }
            trace = self._trace(200, request.stages, request.traceparent, **about)
            self._log.request(
                status=200,
                seconds=request.stages["total"],
                caller=request.caller,
                degraded=answer.degraded,
                trace_id=trace,
                **about,
            )

    def refused(
        self, problem: Problem, caller: str | None, stages: Mapping[str, float], traceparent: str | None
    ) -> None:
        """A request was answered with a problem."""
        self._metrics.refused(problem.status)
        trace = self._trace(problem.status, stages, traceparent)
        self._log.request(
            status=problem.status, seconds=stages["total"], caller=caller, problem=problem.detail, trace_id=trace
        )

    def close(self) -> None:
        """Give out what is queued."""
        for thread in self._threads:
            thread.stop()
        if self._tracer:
            self._tracer.close()

    def _trace(self, status: int, stages: Mapping[str, float], traceparent: str | None, **about: Any) -> str | None:
        if self._tracer is None:
            return None
        return self._tracer.request(traceparent=traceparent, stages=stages, status=status, **about)
