"""Requests that wait at the same moment are answered together: one read of features, one evaluation, one scoring.

Nothing waits for company that is not there. While the replica works on some requests others arrive, and those are the
next batch: the busier it is, the less each costs. What the rows are, and what an answer is, it does not know.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Reply = TypeVar("Reply")
_TURNS = 4
"""Of the event loop, between the first question and the answers: a request whose bytes have come takes as many through
Serve, so that it comes along. A turn of a loop that has nothing else to do takes some microseconds."""


class MicroBatcher(Generic[Question, Reply]):
    """Collects the questions of one event loop and answers them in its thread."""

    def __init__(
        self, answer: Callable[[Sequence[Question]], Sequence[Reply]], size: Callable[[Question], int], most: int
    ) -> None:
        """`answer` replies to each of some questions, whose sizes add up to `most` unless there is only one."""
        self._answer = answer
        self._size = size
        self._most = most
        self._waiting: list[tuple[Question, asyncio.Future[Reply]]] = []

    async def ask(self, question: Question) -> Reply:
        """The reply. Raises what `answer` raised for this question."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append((question, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._turn, loop, _TURNS)
        return await future

    def _turn(self, loop: asyncio.AbstractEventLoop, left: int) -> None:
        if left:
            loop.call_soon(self._turn, loop, left - 1)
        else:
            self._answer_all()

    def _answer_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        batch: list[tuple[Question, asyncio.Future[Reply]]] = []
        rows = 0
        for asked in waiting:
            if asked[1].cancelled():  # its caller has gone
                continue
            size = self._size(asked[0])
            if batch and rows + size > self._most:
                self._answer_batch(batch)
                batch, rows = [], 0
            batch.append(asked)
            rows += size
        if batch:
            self._answer_batch(batch)

    def _answer_batch(self, batch: Sequence[tuple[Question, asyncio.Future[Reply]]]) -> None:
        """Should the batch fail, each is asked alone: a question answers for itself and not for its neighbours."""
        try:
            replies = self._answer([question for question, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for asked in batch:
                self._answer_batch([asked])
            return
        for (_, future), reply in zip(batch, replies, strict=True):
            future.set_result(reply)
