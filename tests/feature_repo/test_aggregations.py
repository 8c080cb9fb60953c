"""Windowed features against a literal reading of their definition."""

import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.features import LatestFeatures, StaticFeatures, WindowedFeatures
from feature_repo.aggregations import ALWAYS, feature_values

START = datetime(2013, 3, 9, 22, tzinfo=UTC)
SCHEMA = {"key": pl.String, "known_at": pl.Datetime("us", "UTC"), "value": pl.Int64}
FUNCTIONS = ["sum", "mean", "standard_deviation", "minimum", "maximum", "last"]
GROUP = WindowedFeatures.model_validate(
    {
        "name": "group",
        "kind": "windowed",
        "description": "Everything at once.",
        "owner": "team:tests",
        "entity": "key",
        "join_keys": {"key": "string"},
        "table": "events",
        "known_at": "known_at",
        "windows": ["1h", "3h"],
        "aggregations": {name: {"function": name, "of": "value"} for name in FUNCTIONS}
        | {"count": {"function": "count"}, "rate": {"function": "rate", "of": "value > 1"}},
    }
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        # Quarters of an hour and the microsecond on either side: ties and window edges are common, not rare.
        st.integers(0, 40).flatmap(lambda n: st.sampled_from([n * 900_000_000 + d for d in (-1, 0, 1)])),
        st.one_of(st.none(), st.integers(-3, 5)),
    ),
    max_size=25,
)


def expected(values: list[int | None], last: set[int]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    some = bool(known)
    return {
        "count": len(values),
        "sum": sum(known) if some else None,
        "mean": sum(known) / len(known) if some else None,
        "minimum": min(known) if some else None,
        "maximum": max(known) if some else None,
        "rate": sum(value > 1 for value in known) / len(known) if some else None,
        "standard_deviation": pytest.approx(statistics.stdev(known), rel=1e-12) if len(known) > 1 else None,
        "last": max(last) if last else None,
    }


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_every_change_point_holds_the_statistics_of_its_window(events: list[tuple[str, int, int | None]]) -> None:
    rows = [(key, START + timedelta(microseconds=at), value) for key, at, value in events]
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    result = feature_values(GROUP, table.lazy()).collect()
    moments = {(key, at + after) for key, at, _ in rows for after in (timedelta(0), *GROUP.windows)}
    assert set(result.select("key", "event_timestamp").iter_rows()) == moments
    for row in result.iter_rows(named=True):
        for window, name in ((timedelta(hours=1), "1h"), (timedelta(hours=3), "3h")):
            inside = [
                (at, value)
                for key, at, value in rows
                if key == row["key"] and row["event_timestamp"] - window < at <= row["event_timestamp"]
            ]
            newest = max((at for at, value in inside if value is not None), default=None)
            wanted = expected([v for _, v in inside], {v for at, v in inside if at == newest and v is not None})
            assert {f: row[f"{f}_{name}"] for f in wanted} == wanted


@settings(max_examples=50, deadline=None)
@given(EVENTS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(events: list[tuple[str, int, int | None]], random: Any) -> None:
    rows = [(key, START + timedelta(microseconds=at), value) for key, at, value in events]
    shuffled = random.sample(rows, len(rows))
    first, second = (
        feature_values(GROUP, pl.DataFrame(order, schema=SCHEMA, orient="row").lazy()).collect()
        for order in (rows, shuffled)
    )
    assert first.equals(second)


def test_rows_without_a_key_or_a_moment_are_left_out() -> None:
    table = pl.DataFrame([(None, START, 1), ("a", None, 1), ("a", START, 2)], schema=SCHEMA, orient="row")
    result = feature_values(GROUP, table.lazy()).collect()
    assert result["key"].unique().to_list() == ["a"]
    assert result.filter(pl.col("event_timestamp") == START)["count_1h"].to_list() == [1]


def test_a_latest_group_gives_one_row_for_each_moment() -> None:
    group = LatestFeatures.model_validate(
        GROUP.model_dump(include={"name", "description", "owner", "entity", "join_keys", "table", "known_at"})
        | {"kind": "latest", "time_to_live": "6h", "features": {"twice": {"expression": "value * 2", "type": "int64"}}}
    )
    table = pl.DataFrame([("a", START, 1), ("a", START, 3)], schema=SCHEMA, orient="row")
    assert feature_values(group, table.lazy()).collect().rows() == [("a", START, 6)]


def test_static_attributes_are_known_always() -> None:
    group = StaticFeatures.model_validate(
        GROUP.model_dump(include={"name", "description", "owner", "entity", "join_keys", "table"})
        | {"kind": "static", "where": "value > 1", "features": {"size": {"expression": "value", "type": "int64"}}}
    )
    table = pl.DataFrame([("a", START, 1), ("b", START, 3)], schema=SCHEMA, orient="row")
    assert feature_values(group, table.lazy()).collect().rows() == [("b", ALWAYS, 3)]
