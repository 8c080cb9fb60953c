"""A job that is done again and again beside the requests."""

import logging
import threading

import pytest

from serving.poller import Poller


class Job:
    """Counts its runs, and tells when a number of them is reached."""

    def __init__(self, seconds: float, failing: frozenset[int] = frozenset()) -> None:
        self.seconds, self.failing, self.runs = seconds, failing, 0
        self.changed = threading.Condition()

    def __call__(self) -> float:
        with self.changed:
            self.runs += 1
            self.changed.notify_all()
            if self.runs in self.failing:
                raise ZeroDivisionError
        return self.seconds

    def reached(self, runs: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.runs >= runs, 20)


def test_a_job_is_done_once_at_the_start_and_then_again_and_again() -> None:
    job = Job(0.001)
    poller = Poller("job", job)
    poller.start()
    assert job.runs >= 1
    assert job.reached(5)
    poller.close()


def test_a_job_that_is_not_due_is_done_when_it_is_woken() -> None:
    job = Job(3_600)
    poller = Poller("job", job)
    poller.start()
    assert job.runs == 1
    poller.wake()
    assert job.reached(2)
    poller.close()
    assert job.runs == 2


def test_a_closed_one_does_no_more() -> None:
    job = Job(0.001)
    poller = Poller("job", job)
    poller.start()
    poller.close()
    runs = job.runs
    poller.wake()
    assert not [thread for thread in threading.enumerate() if thread.name == "job"]
    assert job.runs == runs


def test_a_bug_in_the_job_is_logged_with_its_trace_and_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    job = Job(0.001, failing=frozenset({2, 3}))
    poller = Poller("job", job)
    with caplog.at_level(logging.ERROR, "ray.serve"):
        poller.start()
        assert job.reached(5)
        poller.close()
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def test_a_bug_at_the_start_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        Poller("job", Job(1, failing=frozenset({1}))).start()


def test_one_that_was_never_started_can_be_closed() -> None:
    Poller("job", Job(1)).close()
