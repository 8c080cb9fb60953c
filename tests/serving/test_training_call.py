"""Asking for a training by HTTP: what is taken down, and what is refused."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from serving import training_requests
from serving.callers import Caller
from serving.problems import Problem
from serving.training_call import TrainingCall
from serving.training_requests import MOST_REASON, TrainingRequests

NOW = datetime(2024, 3, 8, tzinfo=UTC)
CALLER = Caller("17", "shop", "key")


@pytest.fixture
def inbox(tmp_path: Path) -> TrainingRequests:
    return TrainingRequests(tmp_path)


def take(inbox: TrainingRequests, body: bytes) -> tuple[int, dict[str, str]]:
    reply = asyncio.run(TrainingCall("flight_delay", inbox, lambda: NOW).take(CALLER, body))
    content: dict[str, str] = orjson.loads(reply.body)
    return reply.status, content


def test_who_asks_and_why_is_taken_down(inbox: TrainingRequests) -> None:
    status, content = take(inbox, b'{"reason": "new routes"}')
    [request] = inbox.pending("flight_delay")
    assert (status, content) == (202, {"request": request.id, "product": "flight_delay", "reason": "new routes"})
    assert (request.caller, request.asked_at) == ("key:17", NOW)


def test_control_characters_begin_no_line_of_a_log(inbox: TrainingRequests) -> None:
    take(inbox, orjson.dumps({"reason": "one\ntwo\x1b[31m"}))
    assert inbox.pending("flight_delay")[0].reason == "one two [31m"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", "/"),
        (b"[]", "/"),
        (b"{}", "/reason"),
        (b'{"reason": ""}', "/reason"),
        (b'{"reason": 7}', "/reason"),
        (b'{"reason": "x", "rush": true}', "/rush"),
        (orjson.dumps({"reason": "x" * (MOST_REASON + 1)}), "/reason"),
    ],
)
def test_a_wrong_body_is_a_422_that_names_the_field_and_nothing_is_taken_down(
    inbox: TrainingRequests, body: bytes, pointer: str
) -> None:
    with pytest.raises(Problem) as refused:
        take(inbox, body)
    assert refused.value.status == 422
    assert refused.value.errors[0]["pointer"] == pointer
    assert inbox.pending("flight_delay") == []


def test_where_nobody_takes_them_up_the_caller_is_told_to_come_again(
    inbox: TrainingRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_requests, "MOST_PENDING", 2)
    for _ in range(2):
        take(inbox, b'{"reason": "again"}')
    with pytest.raises(Problem) as refused:
        take(inbox, b'{"reason": "again"}')
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "30"})
    assert len(inbox.pending("flight_delay")) == 2
