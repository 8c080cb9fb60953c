"""How `mlway up` asks for its first prediction: with the local key, which replicas may not know yet."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from configs.environments import Ports, ReplayClock
from configs.load import load_environment, load_project
from mlway_assets.local.local_key import local_key
from mlway_assets.local.up import _ask, _example
from mlway_assets.resources import Platform
from serving.deploy import ServeError


class Endpoint:
    """Answers with each status in turn, the last again and again."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.keys: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.keys.append(self.headers["Authorization"])
                status = outer.statuses.pop(0) if len(outer.statuses) > 1 else outer.statuses[0]
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()
    endpoint.thread.join()


@pytest.fixture
def platform(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setenv("MLWAY_STATE", str(tmp_path / "state"))
    ports = Ports(serve=endpoint.server.server_address[1])
    return Platform(load_project(), load_environment("local").model_copy(update={"ports": ports}))


def test_it_asks_again_while_replicas_do_not_know_the_key(endpoint: Endpoint, platform: Platform) -> None:
    endpoint.statuses = [401, 401, 200]
    assert _ask(platform, platform.project.products["flight_delay"], {}).status_code == 200
    assert endpoint.keys == [f"Bearer {local_key(platform.environment)}"] * 3


def flights(*days: int, tailnum: str | None = "N1") -> pl.DataFrame:
    """A flight at noon of each of these days of October."""
    departures = [datetime(2013, 10, day, 12, tzinfo=UTC) for day in days]
    columns = {"carrier": "B6", "flight": 1, "origin": "JFK", "dest": "BOS", "tailnum": tailnum}
    rows = [columns | {"scheduled_departure": at, "flight": at.day} for at in departures]
    return pl.DataFrame(rows, schema_overrides={"tailnum": pl.String, "scheduled_departure": pl.Datetime("us", "UTC")})


@pytest.mark.parametrize(
    ("days", "asked"), [((1, 2, 3), 2), ((3, 1), 3), ((1,), 1)], ids=["to come", "in any order", "only past ones"]
)
def test_the_first_prediction_is_about_what_comes_half_a_day_later_or_else_the_newest(
    days: tuple[int, ...], asked: int, platform: Platform
) -> None:
    noon = ReplayClock(kind="replay", at=datetime(2013, 10, 1, 12, tzinfo=UTC))
    platform = Platform(platform.project, platform.environment.model_copy(update={"clock": noon}))
    platform.lake.replace("curated", "fact_flights", pl.concat([flights(*days), flights(2, tailnum=None)]))
    assert _example(platform, platform.project.products["flight_delay"]) == {
        "carrier": "B6", "flight": asked, "origin": "JFK", "dest": "BOS", "tailnum": "N1",
        "scheduled_departure": f"2013-10-0{asked}T12:00:00+00:00",
    }  # fmt: skip


def test_a_population_without_a_whole_request_is_named(platform: Platform) -> None:
    platform.lake.replace("curated", "fact_flights", flights(1, 2, tailnum=None))
    with pytest.raises(ServeError, match=r"No row of curated/fact_flights has all .*tailnum.*\nHint: .*flight_delay"):
        _example(platform, platform.project.products["flight_delay"])


@pytest.mark.parametrize("status", [403, 422, 503])
def test_any_other_refusal_is_the_answer(endpoint: Endpoint, platform: Platform, status: int) -> None:
    endpoint.statuses = [status, 200]
    assert _ask(platform, platform.project.products["flight_delay"], {}).status_code == status
    assert len(endpoint.keys) == 1
