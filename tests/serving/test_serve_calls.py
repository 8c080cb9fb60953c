"""What the gateway makes of what happens between Serve and a replica."""

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError, RayServeException

from serving.gateway import ServeCalls
from serving.problems import Problem

Remote = Callable[[str, dict[str, str], bytes], Coroutine[Any, Any, Any]]


def ask(remote: Remote, times: int = 1, call_seconds: float = 30) -> Any:
    """The last of some replies of a replica whose `call` is `remote`."""
    found: list[str] = []

    def handle_of(product: str) -> Any:
        found.append(product)
        return SimpleNamespace(call=SimpleNamespace(remote=remote))

    async def all_of_them() -> Any:
        calls = ServeCalls(handle_of, call_seconds=call_seconds)
        replies = [await calls("flight_delay", "predict", {"x-api-key": "k"}, b"{}") for _ in range(times)]
        assert found == ["flight_delay"]
        return replies[-1]

    return asyncio.run(all_of_them())


def refused(remote: Remote, call_seconds: float = 30) -> Problem:
    with pytest.raises(Problem) as problem:
        ask(remote, call_seconds=call_seconds)
    return problem.value


def test_a_reply_comes_back_and_the_controller_is_asked_once() -> None:
    async def remote(*asked: Any) -> Any:
        assert asked == ("predict", {"x-api-key": "k"}, b"{}")
        return 200, {"a": "b"}, b"answer"

    reply = ask(remote, times=2)
    assert (reply.status, reply.headers, reply.body) == (200, {"a": "b"}, b"answer")


def test_a_request_whose_replica_dies_is_asked_again_once() -> None:
    died = []

    async def remote(*_: Any) -> Any:
        if not died:
            died.append(1)
            raise ActorDiedError
        return 200, {}, b""

    assert ask(remote).status == 200

    async def always(*_: Any) -> Any:
        raise ActorDiedError

    assert (refused(always).status, refused(always).headers) == (503, {"Retry-After": "1"})


@pytest.mark.parametrize(
    "error", [BackPressureError(num_queued_requests=9, max_queued_requests=8), RayServeException("gone")]
)
def test_a_product_that_is_full_or_gone_is_unavailable_for_now(error: Exception) -> None:
    async def remote(*_: Any) -> Any:
        raise error

    assert (refused(remote).status, refused(remote).headers) == (503, {"Retry-After": "1"})


def test_a_product_that_hangs_is_too_late() -> None:
    async def remote(*_: Any) -> Any:
        await asyncio.Event().wait()

    assert refused(remote, call_seconds=0.2).status == 504
