"""A body is read up to its limits of type, size and time, by the server that replicas use."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from starlette.types import Message, Receive

from serving.bodies import read_body
from serving.problems import Problem

MOST_BYTES = 10


def sent(parts: Sequence[bytes], ends: str) -> Receive:
    """A body that comes in parts, and then ends, breaks off or hangs."""

    async def messages() -> AsyncIterator[Message]:
        for part in parts:
            yield {"type": "http.request", "body": part, "more_body": True}
        if ends == "hangs":
            await asyncio.Event().wait()
        yield {"type": "http.disconnect"} if ends == "breaks off" else {"type": "http.request", "body": b""}

    return messages().__anext__


def read(*parts: bytes, ends: str = "whole", seconds: float = 10, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(read_body(named, sent(parts, ends), MOST_BYTES, seconds))


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "text/json", "application/vnd.mlway+json"]
)
def test_json_is_read_by_any_of_its_names_and_in_any_parts(kind: str) -> None:
    assert read(b"{", b'"a":', b"1}", content_type=kind) == b'{"a":1}'


def test_without_a_type_it_is_taken_for_json() -> None:
    assert read(b"{}") == b"{}"


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "json", "multipart/form-data"])
def test_another_type_is_refused(kind: str) -> None:
    with pytest.raises(Problem, match=r"Send application/json\.") as problem:
        read(b"{}", content_type=kind)
    assert problem.value.status == 415


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity"])
def test_a_compressed_body_is_refused(encoding: str) -> None:
    with pytest.raises(Problem, match="without a content-encoding") as problem:
        read(b"{}", content_encoding=encoding)
    assert problem.value.status == 415


@pytest.mark.parametrize("announced", ["11", "100000000", "9" * 100])
def test_a_body_that_is_announced_as_too_long_is_refused_unread(announced: str) -> None:
    with pytest.raises(Problem, match="A body may have 10 bytes") as problem:
        read(ends="hangs", content_length=announced)
    assert problem.value.status == 413


@pytest.mark.parametrize("announced", [{}, {"content_length": "2"}, {"content_length": "x"}])
def test_a_body_that_turns_out_too_long_is_refused_as_soon_as_it_is(announced: dict[str, str]) -> None:
    with pytest.raises(Problem) as problem:
        read(b"123456", b"78901", ends="hangs", **announced)
    assert problem.value.status == 413


def test_a_body_that_does_not_come_and_one_that_breaks_off_are_the_callers_errors() -> None:
    with pytest.raises(Problem, match=r"did not come within 0\.01 s") as late:
        read(b"{", ends="hangs", seconds=0.01)
    with pytest.raises(Problem, match="ended before it was whole") as broken:
        read(b"{", ends="breaks off")
    assert (late.value.status, broken.value.status) == (408, 400)
