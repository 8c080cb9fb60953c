"""What is asked while days pass: real rows of the day, in bodies that endpoints take."""

from datetime import UTC, datetime
from typing import Any

import orjson
import polars as pl
import pytest
from answering_support import TODAY, at
from polars.testing import assert_frame_equal

from mlway_assets.day_requests import DayRequests
from mlway_assets.resources import Platform
from serving.messages import Question, RequestReader


def bodies(requests: DayRequests) -> list[dict[str, Any]]:
    """All of a day: until the first comes again."""
    first = requests.next()
    assert first is not None
    found = [first]
    while (body := requests.next()) != first:
        assert body is not None
        found.append(body)
    return found


def read(platform: Platform, product: str, requests: DayRequests, body: dict[str, Any]) -> Question:
    reader = RequestReader(platform.project.products[product])
    return {"predict": reader.read, "rank": reader.read_ranking}[requests.call](orjson.dumps(body))


@pytest.mark.parametrize("product", ["arrival_delay", "flight_delay"])
def test_rows_of_the_day_are_asked_about_one_by_one_in_their_order(product: str, built_platform: Platform) -> None:
    requests = DayRequests(built_platform, product)
    asked = [read(built_platform, product, requests, body).rows for body in bodies(requests)]
    assert len(asked) == 200
    times = [rows["scheduled_departure"][0] for rows in asked]
    assert times == sorted(times)
    assert {time.date() for time in times} == {TODAY}
    flights = built_platform.lake.scan("curated", "fact_flights").select(list(asked[0])).collect()
    assert {next(zip(*rows.values(), strict=True)) for rows in asked} <= set(flights.iter_rows())


def test_a_ranking_is_asked_for_whole_queries(built_platform: Platform) -> None:
    requests = DayRequests(built_platform, "flight_ranking")
    assert requests.call == "rank"
    flights = built_platform.lake.scan("curated", "fact_flights").collect()
    block = pl.col("scheduled_departure").dt.hour() // 6
    for body in bodies(requests):
        rows = read(built_platform, "flight_ranking", requests, body).rows
        [dest], [block_asked] = set(rows["dest"]), {time.hour // 6 for time in rows["scheduled_departure"]}
        same_block = flights.filter((pl.col("dest") == dest) & (block == block_asked))
        whole = same_block.filter(pl.col("scheduled_departure").dt.date() == TODAY)
        asked = pl.DataFrame(rows, schema=whole.select(*rows).schema)
        assert_frame_equal(asked, whole.select(*rows), check_row_order=False)


def test_another_day_brings_other_rows_and_a_day_without_any_none(built_platform: Platform) -> None:
    empty = at(built_platform, datetime(2012, 12, 24, tzinfo=UTC))
    empty.__dict__["lake"] = built_platform.lake
    assert DayRequests(empty, "flight_delay").next() is None
    today, tomorrow = (
        bodies(DayRequests(at(built_platform, datetime(2013, 2, day, tzinfo=UTC)), "flight_delay")) for day in (9, 10)
    )
    assert today == bodies(DayRequests(built_platform, "flight_delay"))
    assert {body["instances"][0]["scheduled_departure"][:10] for body in tomorrow} == {"2013-02-10"}
