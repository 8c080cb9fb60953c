"""Answer questions that wait together: one prediction for all, and for each a decision, in the log before it is sent.

No HTTP and no event loop here: what comes in is parsed and admitted, what goes out are bodies.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise
from time import perf_counter, time_ns

import numpy as np

from serving.decision_log import Decision, DecisionLog, DecisionLogError, new_decision_id
from serving.messages import Question, predictions_body, ranking_body
from serving.observation import Answered, Observer
from serving.online_features import OnlineStoreError, OnlineStoreUnavailableError
from serving.online_views import row_count
from serving.predictor import Answer, Columns, Predictor
from serving.problems import Problem

logger = logging.getLogger("ray.serve")
_CHAMPION = "champion"


@dataclass(slots=True)
class Asked:
    """A request in hand, and what it has come through so far."""

    traceparent: str | None
    began: float
    """By perf_counter, as all times here."""
    began_stage: float = field(init=False)
    caller: str | None = None
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds by stage."""
    question: Question = field(init=False)

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


class Answering:
    """Answers the questions of one replica."""

    def __init__(self, product: str, predictor: Predictor, log: DecisionLog, observer: Observer) -> None:
        self._product, self._predictor, self._log, self._observer = product, predictor, log, observer

    def __call__(self, asked: Sequence[Asked]) -> Sequence[bytes | Problem]:
        """The body that each is answered with, or why it is not answered."""
        for each in asked:
            each.passed("wait")
        try:
            answer = self._predictor.predict(_together([each.question.rows for each in asked]))
        except OnlineStoreUnavailableError as error:
            return [unavailable(str(error)) for _ in asked]
        except OnlineStoreError as error:
            return [Problem(503, "Service Unavailable", str(error).splitlines()[0]) for _ in asked]
        ends = list(accumulate(row_count(each.question.rows) for each in asked))
        given = [
            self._given(one, answer, start, end) for one, (start, end) in zip(asked, pairwise([0, *ends]), strict=True)
        ]
        return self._recorded(answer, given)

    def _given(self, asked: Asked, answer: Answer, start: int, end: int) -> "_Given | Problem":
        asked.stages |= answer.seconds
        decision = new_decision_id()
        try:
            body = _body(asked.question, answer, range(start, end), decision)
        except Problem as problem:
            return problem
        return _Given(asked, start, end, decision, body)

    def _recorded(self, answer: Answer, given: Sequence["_Given | Problem"]) -> Sequence[bytes | Problem]:
        """The bodies, once their decisions are in the log."""
        answered = [each for each in given if isinstance(each, _Given)]
        if not answered:
            return [each for each in given if isinstance(each, Problem)]
        began = perf_counter()
        try:
            self._log.append(*(self._decision(each, answer) for each in answered))
        except DecisionLogError as error:
            logger.error("no decision can be recorded: %s", error)  # noqa: TRY400 - our own error, no trace
            return [
                unavailable("The decision could not be recorded, so it is not given.")
                if isinstance(each, _Given)
                else each
                for each in given
            ]
        seconds = perf_counter() - began
        for each in answered:
            each.asked.stages |= {"log": seconds, "total": each.asked.elapsed}
        self._observer.answered(answer, [each.told() for each in answered])
        return [each.body if isinstance(each, _Given) else each for each in given]

    def _decision(self, given: "_Given", answer: Answer) -> Decision:
        asked, start, end = given.asked, given.start, given.end
        rows = asked.question.rows
        return Decision(
            id=given.decision,
            at=answer.at,
            answered_at=time_ns() // 1_000,
            product=self._product,
            model=answer.model,
            digest=answer.digest,
            variant=_CHAMPION,
            caller=asked.caller or "",
            requests=[dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)],
            features=answer.features,
            vectors=np.empty((end - start, 0)) if answer.matrix is None else answer.matrix[start:end],
            ages={view: ages[start:end] for view, ages in answer.ages.items()},
            missing=answer.missing[start:end],
            scores=[score.score if score.lower is None else score._asdict() for score in answer.scores[start:end]],
            degraded=list(answer.degraded),
            latency_microseconds=round(asked.elapsed * 1e6),
            cache_hits=sum(answer.hits[start:end]),
        )


@dataclass(frozen=True, slots=True)
class _Given:
    """A question's answer: rows `start` to `end` of those that were answered together."""

    asked: Asked
    start: int
    end: int
    decision: str
    body: bytes

    def told(self) -> Answered:
        """What is told of it."""
        asked = self.asked
        return Answered(self.decision, asked.caller or "", self.end - self.start, asked.stages, asked.traceparent)


def unavailable(text: str) -> Problem:
    """Not now, but soon perhaps."""
    return Problem(503, "Service Unavailable", text.splitlines()[0], headers={"Retry-After": "1"})


def _together(requests: Sequence[Columns]) -> Columns:
    """Their rows as one request's."""
    if len(requests) == 1:
        return requests[0]
    return {name: list(chain.from_iterable(rows[name] for rows in requests)) for name in requests[0]}


def _body(question: Question, answer: Answer, rows: range, decision: str) -> bytes:
    contributions: Mapping[int, Sequence[float]] = {}
    if question.explain:
        if answer.scoring is None or answer.matrix is None:
            raise Problem(409, "Conflict", "The baseline answers, which has no features to explain it by.")
        explained = answer.scoring.contributions(answer.matrix[rows.start : rows.stop])
        contributions = dict(zip(rows, explained.tolist(), strict=True))
    if question.top is not None:
        return ranking_body(answer, rows, decision, question.top, contributions)
    return predictions_body(answer, rows, decision, contributions)
