"""Token buckets, by a clock that the test moves."""

import sys
import threading
from collections.abc import Iterator

import pytest
from access_support import StandingClock
from hypothesis import given
from hypothesis import strategies as st

from serving.rate_limit import TokenBucket, whole_seconds


def test_a_full_bucket_gives_its_burst_and_then_says_how_long_to_wait() -> None:
    clock = StandingClock()
    bucket = TokenBucket(10, 3, clock)
    assert [bucket.take(1) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(1) == pytest.approx(0.1)
    clock.at += 0.1
    assert bucket.take(1) == 0
    assert bucket.take(2) == pytest.approx(0.2)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    clock = StandingClock()
    bucket = TokenBucket(10, 3, clock)
    clock.at += 1e6
    assert [bucket.take(1) == 0 for _ in range(4)] == [True, True, True, False]


def test_what_costs_more_than_the_burst_waits_for_a_full_bucket_and_leaves_a_debt() -> None:
    clock = StandingClock()
    bucket = TokenBucket(10, 5, clock)
    assert bucket.take(25) == 0
    assert bucket.take(1) == pytest.approx(2.1)
    assert bucket.take(25) == pytest.approx(2.5)
    clock.at += 2.5
    assert bucket.take(25) == 0


def test_what_costs_nothing_is_never_refused() -> None:
    bucket = TokenBucket(10, 5, StandingClock())
    bucket.take(25)
    assert bucket.take(0) == 0
    assert bucket.take(1) == pytest.approx(2.1)


@given(
    st.floats(0.01, 1_000),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 80)), min_size=1, max_size=60),
)
def test_over_any_time_no_more_is_let_in_than_the_burst_and_the_rate(
    per_second: float, burst: int, asked: list[tuple[float, int]]
) -> None:
    clock = StandingClock(0)
    bucket = TokenBucket(per_second, burst, clock)
    admitted = 0
    for pause, cost in asked:
        clock.at += pause
        wait = bucket.take(cost)
        if wait:
            clock.at += wait
            assert bucket.take(cost) == 0, "the wait that it named was not enough"
        admitted += cost
        debt = max(0, cost - burst)
        assert admitted <= burst + per_second * clock.at + debt + 1e-3


@pytest.fixture
def _threads_that_change_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_threads_that_change_often")
def test_threads_that_ask_at_once_get_no_more_than_one() -> None:
    bucket, got = TokenBucket(1, 2_000, StandingClock()), []

    def ask() -> None:
        got.extend(bucket.take(1) == 0 for _ in range(1_000))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 2_000


@pytest.mark.parametrize(("seconds", "text"), [(0.001, "1"), (1.0, "1"), (1.001, "2"), (60, "60")])
def test_a_wait_is_said_in_whole_seconds_rounded_up(seconds: float, text: str) -> None:
    assert whole_seconds(seconds) == text
