"""Request bodies: what is accepted, and how the rest is refused."""

import json
from typing import Any

import pytest

from configs.load import load_project
from serving.messages import RequestReader
from serving.problems import Problem

PRODUCT = load_project().products["flight_delay"]
INSTANCE: dict[str, Any] = {
    "carrier": "B6",
    "flight": 1016,
    "origin": "JFK",
    "dest": "BOS",
    "tailnum": "N258JB",
    "scheduled_departure": "2013-10-01T14:00:00Z",
}


def read(*instances: Any) -> Any:
    return RequestReader(PRODUCT).read(json.dumps({"instances": instances}).encode()).rows


def test_instances_become_columns_with_moments_in_utc() -> None:
    columns = read(INSTANCE, INSTANCE | {"scheduled_departure": "2013-10-01T10:00:00-04:00", "tailnum": None})
    assert list(map(str, columns["scheduled_departure"])) == ["2013-10-01 14:00:00+00:00"] * 2
    assert columns["tailnum"] == ["N258JB", None]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"carrier": 6}, "/instances/0/carrier"),
        ({"flight": "1016"}, "/instances/0/flight"),
        ({"flight": 1016.5}, "/instances/0/flight"),
        ({"flight": True}, "/instances/0/flight"),
        ({"flight": 2**63}, "/instances/0/flight"),
        ({"dest": "B" * 1000}, "/instances/0/dest"),
        ({"scheduled_departure": "2013-10-01T14:00:00"}, "/instances/0/scheduled_departure"),
        ({"scheduled_departure": 1380636000}, "/instances/0/scheduled_departure"),
        ({"scheduled_departure": None}, "/instances/0/scheduled_departure"),
        ({"scheduled_departure": "0001-01-01T00:00:00Z"}, "/instances/0/scheduled_departure"),
        ({"colour": "red"}, "/instances/0/colour"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Problem) as problem:
        read(INSTANCE | change)
    assert problem.value.status == 422
    assert pointer in [error["pointer"] for error in json.loads(problem.value.body())["errors"]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"instances": []}',
        b'{"instances": {}}',
        b'{"instances": [NaN]}',
        b"\xff\xfe",
        b"[" * 5000,
    ],
)
def test_a_body_that_is_not_a_request_is_a_problem_and_not_a_crash(body: bytes) -> None:
    with pytest.raises(Problem) as problem:
        RequestReader(PRODUCT).read(body)
    content = json.loads(problem.value.body())
    assert (content["status"], content["title"]) == (422, "Unprocessable Content")


def test_more_instances_than_the_product_allows_are_refused() -> None:
    with pytest.raises(Problem, match="at most 1000"):
        read(*[INSTANCE] * 1001)


RANKING = RequestReader(load_project().products["flight_ranking"])
CANDIDATE = {name: INSTANCE[name] for name in ("carrier", "flight", "origin", "tailnum", "scheduled_departure")}


def rank(**body: Any) -> Any:
    return RANKING.read_ranking(json.dumps(body).encode())


def test_candidates_share_what_the_context_says() -> None:
    question = rank(context={"dest": "BOS"}, candidates=[CANDIDATE, CANDIDATE | {"flight": 7}], top_k=1)
    assert question.rows["dest"] == ["BOS", "BOS"]
    assert question.rows["flight"] == [1016, 7]
    assert question.top == 1
    assert rank(candidates=[INSTANCE]).top == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"candidates": []}, "/candidates"),
        ({"candidates": [CANDIDATE] * 501, "context": {"dest": "BOS"}}, "/candidates"),
        ({"candidates": [CANDIDATE], "context": {"dest": 7}}, "/context/dest"),
        ({"candidates": [CANDIDATE, INSTANCE], "context": {"dest": "BOS"}}, "/candidates/1/dest"),
        ({"candidates": [CANDIDATE]}, "/candidates/0/dest"),
        ({"candidates": [INSTANCE | {"flight": 2**70}]}, "/candidates"),
        ({"candidates": [INSTANCE], "top_k": 0}, "/top_k"),
        ({"candidates": [INSTANCE | {"a/b": 1}]}, "/candidates/0/a~1b"),
    ],
)
def test_what_is_wrong_with_a_ranking_is_named(body: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Problem) as problem:
        rank(**body)
    assert problem.value.status == 422
    assert pointer in [error["pointer"] for error in problem.value.errors]
