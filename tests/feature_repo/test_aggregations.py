"""Windowed features against a literal reading of their definition, over all history and from micro-batches."""

import math
import statistics
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_examples import EVENTS, GROUP, SCHEMA, START, table_of

from configs.errors import ConfigError
from configs.features import Aggregation, LatestFeatures, PythonExpression, StaticFeatures, WindowedFeatures
from feature_repo.aggregations import ALWAYS, feature_values
from feature_repo.expressions import ExpressionError, parse


def quantile(values: list[int], q: float) -> float:
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def expected(inside: list[tuple[datetime, int | None]]) -> dict[str, Any]:
    values = [value for _, value in inside]
    rows = sorted((at, value) for at, value in inside if value is not None)
    known = [value for _, value in rows]
    nonzero = [(at, "minus" if value < 0 else "plus") for at, value in rows if value]
    positive = [value for value in known if value > 0]
    some = bool(known)
    return {
        "count": len(values),
        "sum": sum(known) if some else None,
        "mean": sum(known) / len(known) if some else None,
        "minimum": min(known) if some else None,
        "maximum": max(known) if some else None,
        "rate": sum(value > 1 for value in known) / len(known) if some else None,
        "standard_deviation": pytest.approx(statistics.stdev(known), rel=1e-12) if len(known) > 1 else None,
        "first": known[0] if some else None,
        "last": known[-1] if some else None,
        "distinct_count": len(set(known)),
        "upper_quartile": pytest.approx(quantile(known, 0.75), rel=1e-12) if some else None,
        "positive": len(positive),
        "positive_sum": sum(positive) if positive else None,
        "cost": sum(10 * value for value in known) / 100 if some else None,
        "cost_mean": sum(10 * value for value in known) / (100 * len(known)) if some else None,
        "cheapest": min(known) / 10 if some else None,
        "sign": max(nonzero)[1] if nonzero else None,
    }


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_every_change_point_holds_the_statistics_of_its_window(events: list[tuple[str, int, int | None]]) -> None:
    table = table_of(events)
    result = feature_values(GROUP, table.lazy()).collect()
    rows = list(table.select("key", "known_at", "value").iter_rows())
    moments = {(key, at + after) for key, at, _ in rows for after in (timedelta(0), *GROUP.windows)}
    assert set(result.select("key", "event_timestamp").iter_rows()) == moments
    for row in result.iter_rows(named=True):
        for window, name in ((timedelta(hours=1), "1h"), (timedelta(hours=3), "3h")):
            wanted = expected(
                [
                    (at, value)
                    for key, at, value in rows
                    if key == row["key"] and row["event_timestamp"] - window < at <= row["event_timestamp"]
                ]
            )
            assert {f: row[f"{f}_{name}"] for f in wanted} == wanted


@settings(max_examples=25, deadline=None)
@given(EVENTS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(events: list[tuple[str, int, int | None]], random: Any) -> None:
    first, second = (
        feature_values(GROUP, table_of(order).lazy()).collect()
        for order in (events, random.sample(events, len(events)))
    )
    assert first.equals(second)


def test_rows_without_a_key_or_a_moment_are_left_out() -> None:
    rows = [(None, START, 1, 1.0), ("a", None, 1, 1.0), ("a", START, 2, 1.0)]
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    result = feature_values(GROUP, table.lazy()).collect()
    assert result["key"].unique().to_list() == ["a"]
    assert result.filter(pl.col("event_timestamp") == START)["count_1h"].to_list() == [1]


def test_a_latest_group_gives_one_row_for_each_moment() -> None:
    group = LatestFeatures.model_validate(
        GROUP.model_dump(include={"name", "description", "owner", "entity", "join_keys", "table", "known_at"})
        | {"kind": "latest", "time_to_live": "6h", "features": {"twice": {"expression": "value * 2", "type": "int64"}}}
    )
    table = pl.DataFrame([("a", START, 1, 1.0), ("a", START, 3, 1.0)], schema=SCHEMA, orient="row")
    assert feature_values(group, table.lazy()).collect().rows() == [("a", START, 6)]


def test_static_attributes_are_known_always() -> None:
    group = StaticFeatures.model_validate(
        GROUP.model_dump(include={"name", "description", "owner", "entity", "join_keys", "table"})
        | {"kind": "static", "where": "value > 1", "features": {"size": {"expression": "value", "type": "int64"}}}
    )
    table = pl.DataFrame([("a", START, 1, 1.0), ("b", START, 3, 1.0)], schema=SCHEMA, orient="row")
    assert feature_values(group, table.lazy()).collect().rows() == [("b", ALWAYS, 3)]


def test_of_rows_with_one_event_key_the_first_known_counts() -> None:
    group = GROUP.model_copy(update={"event_key": ("value",)})
    later = START + timedelta(minutes=5)
    table = pl.DataFrame([("a", later, 1, 2.0), ("a", START, 1, 1.0)], schema=SCHEMA, orient="row")
    result = feature_values(group, table.lazy()).collect()
    assert later not in result["event_timestamp"]
    assert result["cost_1h"].to_list()[0] == 1.0


@pytest.mark.parametrize(
    ("aggregation", "message"),
    [
        ({"function": "sum", "of": "price"}, "not whole numbers.*set `decimals`"),
        ({"function": "maximum", "of": "value * 1.5"}, "does not fit int64.*value_type: float64"),
        ({"function": "maximum", "of": "CAST(price AS DECIMAL(10, 2))"}, "does not fit int64.*value_type: float64"),
        ({"function": "maximum", "of": "price"}, "does not fit int64.*value_type: float64"),
        ({"function": "rate", "of": "price"}, "not a condition"),
        ({"function": "quantile", "of": "key", "quantile": 0.5}, "there is no quantile"),
    ],
)
def test_an_aggregation_that_would_lose_digits_is_refused(aggregation: dict[str, Any], message: str) -> None:
    group = GROUP.model_copy(update={"aggregations": {"it": Aggregation.model_validate(aggregation)}})
    with pytest.raises(ConfigError, match=f"(?s)aggregations.it.of.*{message}"):
        feature_values(group, table_of([]).lazy()).collect()


def test_a_python_function_can_give_an_expression() -> None:
    of = {"python": "expression_functions:half_of_value"}
    group = GROUP.model_copy(
        update={"aggregations": {"half": Aggregation.model_validate({"function": "sum", "of": of, "decimals": 1})}}
    )
    result = feature_values(group, table_of([("a", 0, 5)]).lazy()).collect()
    assert result["half_1h"].to_list()[0] == 2.5


def grouped(**aggregations: dict[str, Any]) -> WindowedFeatures:
    declared = {name: Aggregation.model_validate(aggregation) for name, aggregation in aggregations.items()}
    return GROUP.model_copy(update={"aggregations": declared})


def priced(*prices: float) -> pl.LazyFrame:
    return pl.DataFrame([("a", START, 1, price) for price in prices], schema=SCHEMA, orient="row").lazy()


def test_sums_of_great_numbers_do_not_wrap_around() -> None:
    great = 5 * 10**18
    table = table_of([("a", 0, great), ("a", 1, great), ("a", 2, great)]).lazy()
    means = feature_values(grouped(it={"function": "mean", "of": "value"}), table).collect()
    assert set(means["it_1h"].drop_nulls()) == {float(great)}
    with pytest.raises(pl.exceptions.InvalidOperationError, match="from `i128` to `i64` failed"):
        feature_values(grouped(it={"function": "sum", "of": "value"}), table).collect()
    apart = table_of([("a", 0, great), ("a", 20_000_000_000, great)]).lazy()
    assert feature_values(grouped(it={"function": "sum", "of": "value"}), apart).collect()["it_1h"].max() == great


@pytest.mark.parametrize("strange", [float("inf"), float("-inf"), float("nan")])
def test_what_is_no_number_does_not_count(strange: float) -> None:
    group = grouped(
        sum={"function": "sum", "of": "price", "decimals": 1},
        median={"function": "quantile", "of": "price", "quantile": 0.5},
        greatest={"function": "maximum", "of": "price", "value_type": "float64"},
    )
    values = feature_values(group, priced(1.5, strange)).collect()
    assert values.row(0)[2:5] == (1.5, 1.5, 1.5)


@pytest.mark.parametrize("prices", [(0.0, -0.0), (-0.0, 0.0)])
def test_there_is_one_zero_whichever_comes_first(prices: tuple[float, float]) -> None:
    functions = {"first": "first", "last": "last", "least": "minimum", "greatest": "maximum"}
    of = {"of": "price", "value_type": "float64"}
    windowed = grouped(**{name: {"function": function} | of for name, function in functions.items()})
    row = feature_values(windowed, priced(*prices)).collect().row(0)[2:6]
    latest = LatestFeatures.model_validate(
        GROUP.model_dump(include={"name", "description", "owner", "entity", "join_keys", "table", "known_at"})
        | {"kind": "latest", "time_to_live": "6h", "features": {"it": {"expression": "price", "type": "float64"}}}
    )
    newest = feature_values(latest, priced(*prices)).collect()["it"].to_list()
    assert [math.copysign(1, value) for value in (*row, *newest)] == [1.0] * 5


@pytest.mark.parametrize("path", ["no_such_module:f", "expression_functions:missing", "expression_functions:seven"])
def test_a_python_function_that_cannot_be_used_is_named(path: str) -> None:
    with pytest.raises(ExpressionError, match=path):
        parse(PythonExpression(python=path))
