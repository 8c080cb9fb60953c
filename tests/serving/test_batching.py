"""Requests that wait at the same moment are answered together, and each for itself."""

import asyncio
from collections.abc import Sequence

import pytest

from serving.batching import MicroBatcher


class Doubling:
    """Doubles numbers, refuses seven, and remembers what it was asked at once."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        if 7 in numbers:
            raise ValueError("seven")
        return [2 * number for number in numbers]


def ask_all(answer: Doubling, numbers: Sequence[int], most: int = 100) -> list[int | BaseException]:
    async def run() -> list[int | BaseException]:
        batcher: MicroBatcher[int, int] = MicroBatcher(answer, lambda number: number, most)
        return await asyncio.gather(*map(batcher.ask, numbers), return_exceptions=True)

    return asyncio.run(run())


def test_what_waits_at_once_is_one_batch_and_everyone_gets_his_own_reply() -> None:
    answer = Doubling()
    assert ask_all(answer, [1, 2, 3]) == [2, 4, 6]
    assert answer.batches == [[1, 2, 3]]


def test_a_batch_holds_no_more_than_it_may_unless_one_question_does() -> None:
    answer = Doubling()
    assert ask_all(answer, [4, 4, 20, 1, 9], most=10) == [8, 8, 40, 2, 18]
    assert answer.batches == [[4, 4], [20], [1, 9]]


def test_a_question_that_fails_fails_alone() -> None:
    replies = ask_all(Doubling(), [1, 7, 3])
    assert [replies[0], replies[2]] == [2, 6]
    assert isinstance(replies[1], ValueError)


def test_an_answer_that_is_not_one_for_each_fails_them_and_nobody_after_them() -> None:
    answers = iter([[], [], [], [8]])

    async def run() -> list[int | BaseException]:
        batcher: MicroBatcher[int, int] = MicroBatcher(lambda _: next(answers), lambda _: 1, 100)
        both = await asyncio.gather(batcher.ask(1), batcher.ask(2), return_exceptions=True)
        return [*both, await batcher.ask(4)]

    *failed, last = asyncio.run(run())
    assert [type(error) for error in failed] == [ValueError, ValueError]
    assert last == 8


def test_later_questions_are_another_batch_and_who_has_gone_is_not_answered() -> None:
    answer = Doubling()

    async def run() -> int:
        batcher: MicroBatcher[int, int] = MicroBatcher(answer, lambda number: number, 100)
        gone = asyncio.create_task(batcher.ask(1))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await batcher.ask(2) == 4
        return await batcher.ask(3)

    assert asyncio.run(run()) == 6
    assert [2] in answer.batches
    assert answer.batches[-1] == [3]


def test_after_a_long_batch_the_network_comes_first_and_what_arrives_meanwhile_is_one_batch() -> None:
    answer, now = Doubling(), 0.0

    def slowly(numbers: Sequence[int]) -> list[int]:
        nonlocal now
        now += 0.01
        return answer(numbers)

    async def run() -> None:
        batcher: MicroBatcher[int, int] = MicroBatcher(slowly, lambda _: 1, 100, lambda: now)

        async def come_in_turn(count: int) -> None:
            """One in each pass of the loop, as connections do."""
            arrived = []
            for number in range(count):
                arrived.append(asyncio.create_task(batcher.ask(100 + number)))
                await asyncio.sleep(0)
            await asyncio.gather(*arrived)

        await come_in_turn(1)
        await come_in_turn(20)
        assert list(map(len, answer.batches)) == [1, 20]

    asyncio.run(run())


def test_nothing_waits_longer_than_a_few_passes_once_the_loop_has_come_to_rest() -> None:
    answer, now = Doubling(), 0.0

    def slowly(numbers: Sequence[int]) -> list[int]:
        nonlocal now
        now += 100.0
        return answer(numbers)

    async def run() -> None:
        batcher: MicroBatcher[int, int] = MicroBatcher(slowly, lambda _: 1, 100, lambda: now)
        await batcher.ask(1)
        for _ in range(2_010):
            await asyncio.sleep(0)
        second = asyncio.create_task(batcher.ask(2))
        for _ in range(8):
            await asyncio.sleep(0)
        assert second.done()

    asyncio.run(run())
