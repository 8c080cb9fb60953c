"""Which requests a replica takes: those that it can answer in time. The others are refused while that is still cheap.

A request is refused with 503 before its body is parsed when as many are in hand as the product's file allows, or when
what they ask for takes longer than a new one may wait; one that has waited past its deadline all the same is refused
before its features are read. What a question is it does not know: it counts rows, and learns how fast they go. Access
and rates are not here: access.py, rate_limit.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from time import perf_counter
from typing import Generic, TypeVar

from configs.products import Endpoint
from serving.batching import MicroBatcher
from serving.problems import Problem
from serving.rate_limit import whole_seconds

Question = TypeVar("Question")
Reply = TypeVar("Reply")
REQUEST_ROWS = 10
"""What a request costs beside its rows, in rows: HTTP, the decision's record and the log."""
_REMEMBERED_SECONDS = 2.0
"""Busy seconds after which what was learned of the pace counts a third."""
_PRESUMED = 1.0, 5_000.0
"""Seconds and rows of a replica that has answered nothing yet: its first request, which is slow, is to tell little."""
_HALF = 0.5
"""Of the deadline may be taken by what waits: the pace is an estimate."""


class OverloadedError(Problem):
    """The replica has more in hand than it can answer in time."""

    def __init__(self, detail: str, seconds: float) -> None:
        """`seconds`: when to try again."""
        super().__init__(503, "Service Unavailable", detail, headers={"Retry-After": whole_seconds(seconds)})


class Pace:
    """Seconds for a unit of work while there is some: the mean over the last busy seconds, however few requests."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = 0.0
        self._seconds, self._work = _PRESUMED
        self.waiting = 0
        """Work that has begun and not ended."""

    @property
    def seconds(self) -> float:
        """Until what waits is done."""
        return self.waiting * self._seconds / self._work

    def began(self, work: int) -> None:
        """So much is waiting besides."""
        if not self.waiting:
            self._since = self._clock()
        self.waiting += work

    def ended(self, work: int, is_done: bool) -> None:
        """So much no longer is: it is done, or its caller has gone."""
        self.waiting -= work
        if is_done:
            now = self._clock()
            elapsed, self._since = now - self._since, now
            kept = exp(-elapsed / _REMEMBERED_SECONDS)
            self._seconds, self._work = self._seconds * kept + elapsed, self._work * kept + work


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Question]):
    question: Question
    size: int
    expires: float


class Admission(Generic[Question, Reply]):
    """The bounded queue of one replica, in front of a MicroBatcher. Everything happens in one event loop."""

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Reply]],
        size: Callable[[Question], int],
        endpoint: Endpoint,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """`answer` and `size` are those of MicroBatcher; sizes are rows."""
        self._answer, self._size, self._clock = answer, size, clock
        self._always, self._most = endpoint.target_ongoing_requests, endpoint.most_requests
        self._deadline = endpoint.deadline_seconds
        self._in_hand = 0
        self._pace = Pace(clock)
        self._batcher: MicroBatcher[_Waiting[Question], Reply | None] = MicroBatcher(
            self._answer_in_time, lambda waiting: waiting.size, endpoint.max_instances, clock
        )

    def check(self) -> None:
        """To be called before a request is parsed, without an await until `ask`. Raises OverloadedError."""
        if self._in_hand < self._always:
            return
        seconds = self._pace.seconds
        if self._in_hand >= self._most:
            raise OverloadedError(f"{self._in_hand} requests are in hand, and no more may wait.", seconds)
        if seconds > self._deadline * _HALF:
            raise OverloadedError("What is in hand takes too long for another request to be answered in time.", seconds)

    async def ask(self, question: Question) -> Reply:
        """The reply. Raises OverloadedError where its turn came too late, else what `answer` raised."""
        waiting = _Waiting(question, self._size(question), self._clock() + self._deadline)
        work = waiting.size + REQUEST_ROWS
        self._in_hand += 1
        self._pace.began(work)
        is_done = False
        try:
            reply = await self._batcher.ask(waiting)
            is_done = reply is not None
        finally:
            self._in_hand -= 1
            self._pace.ended(work, is_done)
        if reply is None:
            raise OverloadedError(f"The request has waited for {self._deadline:g} s, its deadline.", self._pace.seconds)
        return reply

    def _answer_in_time(self, asked: Sequence[_Waiting[Question]]) -> Sequence[Reply | None]:
        """Only what is not late is computed."""
        now = self._clock()
        questions = [waiting.question for waiting in asked if now < waiting.expires]
        replies = iter(self._answer(questions) if questions else ())
        return [next(replies) if now < waiting.expires else None for waiting in asked]
