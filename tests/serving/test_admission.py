"""A replica takes what it can answer in time, and refuses the rest while that is cheap."""

import asyncio
from collections.abc import Sequence

import pytest

from configs.products import Endpoint
from serving.admission import REQUEST_ROWS, Admission, OverloadedError, Pace

ROWS_PER_SECOND = 1_000
LIMITS = {"target_ongoing_requests": 2, "max_ongoing_requests": 4, "max_queued_requests": 6}


class Machine:
    """Answers a question, a number of rows, with itself, which takes a millisecond for each row and each request."""

    def __init__(self) -> None:
        self.now = 0.0
        self.answered: list[int] = []
        self.stall = 0.0

    def __call__(self, asked: Sequence[int]) -> list[int]:
        self.now += sum(rows + REQUEST_ROWS for rows in asked) / ROWS_PER_SECOND + self.stall
        self.answered += asked
        return list(asked)

    def clock(self) -> float:
        return self.now

    def admission(self, **limits: float) -> Admission[int, int]:
        endpoint = Endpoint.model_validate(LIMITS | limits)
        return Admission(self, lambda rows: rows, endpoint, self.clock)


async def take(admission: Admission[int, int], rows: int) -> int | OverloadedError:
    """What becomes of one request."""
    try:
        admission.check()
        return await admission.ask(rows)
    except OverloadedError as error:
        return error


async def arrive(admission: Admission[int, int], sizes: Sequence[int]) -> list[int | OverloadedError]:
    """What becomes of requests that arrive at the same moment, in their order."""
    return await asyncio.gather(*(take(admission, rows) for rows in sizes))


async def learn(admission: Admission[int, int]) -> None:
    """Twenty busy seconds: nothing is left of what was presumed."""
    for _ in range(20):
        await admission.ask(990)


def refused(replies: Sequence[int | OverloadedError]) -> list[bool]:
    return [isinstance(reply, OverloadedError) for reply in replies]


def test_as_many_as_are_always_taken_are_taken_whatever_is_known_of_the_pace() -> None:
    machine = Machine()

    async def run() -> None:
        admission = machine.admission(deadline_seconds=1)
        assert refused(await arrive(admission, [900])) == [False]
        assert refused(await arrive(admission, [400, 400])) == [False, False]

    asyncio.run(run())


def test_more_are_taken_while_half_the_deadline_is_enough_for_what_is_in_hand() -> None:
    machine = Machine()

    async def run() -> None:
        admission = machine.admission(deadline_seconds=1)
        await learn(admission)
        taken = refused(await arrive(admission, [190] * 6))
        assert taken == [False, False, False, True, True, True], "0.6 s of work are in hand after the third"

    asyncio.run(run())


def test_rows_count_and_not_requests() -> None:
    machine = Machine()

    async def run() -> None:
        admission = machine.admission(deadline_seconds=1)
        await learn(admission)
        assert refused(await arrive(admission, [1] * 10)) == [False] * 10

    asyncio.run(run())


def test_no_more_wait_than_the_queue_holds() -> None:
    machine = Machine()

    async def run() -> None:
        replies = await arrive(machine.admission(), [1] * 12)
        assert refused(replies) == [False] * 10 + [True] * 2

    asyncio.run(run())


def test_a_refusal_is_an_unavailable_service_that_says_when_to_come_again() -> None:
    machine = Machine()

    async def run() -> None:
        admission = machine.admission(deadline_seconds=5, max_queued_requests=20)
        await learn(admission)
        *_, last = await arrive(admission, [990] * 4)
        assert isinstance(last, OverloadedError)
        assert (last.status, last.headers) == (503, {"Retry-After": "3"})

    asyncio.run(run())


def test_what_is_refused_is_neither_computed_nor_counted() -> None:
    machine = Machine()

    async def run() -> None:
        admission = machine.admission(deadline_seconds=1)
        await learn(admission)
        await arrive(admission, [190] * 6)
        assert machine.answered[20:] == [190, 190, 190]
        assert refused(await arrive(admission, [190] * 3)) == [False] * 3, "the queue is empty again"

    asyncio.run(run())


def test_a_request_that_has_waited_past_its_deadline_is_not_computed() -> None:
    """The batches of one moment are answered one after another: the second is too late."""
    machine = Machine()

    async def run() -> None:
        admission = machine.admission(deadline_seconds=1, max_instances=100)
        machine.stall = 2.0
        replies = await arrive(admission, [100, 60, 40, 100])
        assert refused(replies) == [False, True, True, True]
        assert machine.answered == [100]
        machine.stall = 0.0
        assert await arrive(admission, [10]) == [10]

    asyncio.run(run())


def test_of_a_batch_only_the_late_are_refused() -> None:
    machine = Machine()

    async def run() -> None:
        admission = machine.admission(deadline_seconds=1)

        async def take_at(moment: float, rows: int) -> int | OverloadedError:
            machine.now = moment
            return await take(admission, rows)

        async def wait_until(moment: float) -> None:
            machine.now = moment

        early, later, _ = await asyncio.gather(take_at(0.0, 1), take_at(0.8, 2), wait_until(1.2))
        assert refused([early, later]) == [True, False]
        assert machine.answered == [2]

    asyncio.run(run())


def test_errors_reach_those_who_asked_and_leave_no_trace_in_the_count() -> None:
    class Broken(Machine):
        def __call__(self, asked: Sequence[int]) -> list[int]:
            raise ValueError("no")

    machine = Broken()

    async def run() -> None:
        admission = machine.admission()
        for _ in range(20):
            admission.check()
            with pytest.raises(ValueError, match="no"):
                await admission.ask(1)

    asyncio.run(run())


def test_a_caller_who_has_gone_makes_room() -> None:
    machine = Machine()

    async def run() -> None:
        admission = machine.admission(max_ongoing_requests=1, max_queued_requests=1)
        gone = [asyncio.create_task(admission.ask(1)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        admission.check()
        assert machine.answered == []

    asyncio.run(run())


def test_one_slow_moment_does_not_make_a_fast_replica_slow() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    for _ in range(20_000):
        pace.began(1)
        now += 0.001
        pace.ended(1, is_done=True)
    pace.began(1)
    now += 0.5
    pace.ended(1, is_done=True)
    pace.began(1_000)
    assert 1.0 < pace.seconds < 1.7
    assert pace.waiting == 1_000


def test_a_slow_first_request_tells_little() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    pace.began(1 + REQUEST_ROWS)
    now += 0.5
    pace.ended(1 + REQUEST_ROWS, is_done=True)
    pace.began(100 * (1 + REQUEST_ROWS))
    assert pace.seconds < 0.5


def test_what_was_learned_is_forgotten_while_busy_and_kept_while_idle() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    pace.began(100)
    now += 30.0
    pace.ended(100, is_done=True)
    now += 3_600
    pace.began(1)
    assert pace.seconds == pytest.approx(0.3, rel=1e-3)
    for _ in range(100_000):
        now += 0.0001
        pace.began(1)
        pace.ended(1, is_done=True)
    assert pace.seconds < 0.0002
