"""Requests that wait at the same moment are answered together: one read of features, one evaluation, one scoring.

Nothing waits for company that is not there. While the replica works on some requests others arrive, and those are the
next batch: the busier it is, the less each costs. What the rows are, and what an answer is, it does not know.

Between two batches the network comes first, the longer the longer the one before took. uvloop accepts one connection in
a pass of its loop: were each pass to compute, callers would wait where nobody counts or refuses them, in the kernel.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Generic, NamedTuple, TypeVar

Question = TypeVar("Question")
Reply = TypeVar("Reply")
_LEAST_PASSES, _MOST_PASSES = 4, 2_000
"""Of the event loop, before a batch. A request whose bytes have come takes four through Serve, so that it comes along.
A pass in which nothing has come takes a microsecond."""
_SHORT_SECONDS, _PASSES_PER_SECOND = 0.005, 20_000
"""Of the batch before; what was short is not counted."""


class _Waiting(NamedTuple, Generic[Question, Reply]):
    question: Question
    size: int
    reply: "asyncio.Future[Reply]"


class MicroBatcher(Generic[Question, Reply]):
    """Collects the questions of one event loop and answers them in its thread, in their order."""

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Reply]],
        size: Callable[[Question], int],
        most: int,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """`answer` replies to each of some questions, whose sizes add up to `most` unless there is only one."""
        self._answer, self._size, self._most, self._clock = answer, size, most, clock
        self._waiting: deque[_Waiting[Question, Reply]] = deque()
        self._is_idle = True

    async def ask(self, question: Question) -> Reply:
        """The reply. Raises what `answer` raised for this question."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append(_Waiting(question, self._size(question), reply))
        if self._is_idle:
            self._is_idle = False
            self._pass(loop, _LEAST_PASSES)
        return await reply

    def _pass(self, loop: asyncio.AbstractEventLoop, left: int) -> None:
        """Let the loop do what there is to do, so many times, and then answer a batch."""
        if left:
            loop.call_soon(self._pass, loop, left - 1)
            return
        began = self._clock()
        try:
            self._answer_batch(self._next_batch())
        finally:  # whatever happens, the next ones have their turn
            seconds = self._clock() - began - _SHORT_SECONDS
            self._is_idle = seconds < 0 and not self._waiting
            if not self._is_idle:
                passes = int(max(seconds, 0.0) * _PASSES_PER_SECOND)
                self._pass(loop, min(max(passes, _LEAST_PASSES), _MOST_PASSES))

    def _next_batch(self) -> list[_Waiting[Question, Reply]]:
        """Those who wait and have not gone, up to the most."""
        batch: list[_Waiting[Question, Reply]] = []
        rows = 0
        while self._waiting and (not batch or rows + self._waiting[0].size <= self._most):
            asked = self._waiting.popleft()
            if not asked.reply.cancelled():
                batch.append(asked)
                rows += asked.size
        return batch

    def _answer_batch(self, batch: Sequence[_Waiting[Question, Reply]]) -> None:
        """Should the batch fail, each is asked alone: a question answers for itself and not for its neighbours."""
        if not batch:
            return
        try:
            replies = list(zip(batch, self._answer([asked.question for asked in batch]), strict=True))
        except Exception as error:
            if len(batch) == 1:
                batch[0].reply.set_exception(error)
                return
            for asked in batch:
                self._answer_batch([asked])
            return
        for asked, reply in replies:
            asked.reply.set_result(reply)
