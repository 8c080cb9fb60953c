"""A request of one row gets the bits that a training row gets."""

import math
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.exact_division import with_exact_division
from feature_repo.expressions import parse, parse_for_one_row

ROWS = st.lists(st.tuples(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6)), min_size=2, max_size=40)
EXPRESSIONS = [
    "n / 7.0",
    "x / 100",
    "(x + n) / (2 + 1)",
    "x // 0.1",
    "x % 0.3",
    "MOD(x, 7.3)",
    "EXP(x / 1000000)",
    "n - 2 * (x / 7.0 + 40)",
    "n // 7",
    "n % 7",
    "-n / 7",
    "(x / 3) / 7",
    "SQRT(ABS(x) / 3)",
    "CASE WHEN x > 0 THEN x / 3 ELSE n / 11 END",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
@given(rows=ROWS)
def test_one_row_gives_the_bits_that_many_rows_give(text: str, rows: list[tuple[int, float]]) -> None:
    frame = pl.DataFrame(rows, schema={"n": pl.Int64, "x": pl.Float64}, orient="row")
    many = frame.lazy().select(it=parse(text)).collect()["it"]
    for one_row in (parse(text), parse_for_one_row(text)):
        single = pl.concat([frame[row].select(it=one_row) for row in range(len(frame))])["it"]
        assert many.reinterpret(signed=False).equals(single.reinterpret(signed=False))


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1))
def test_a_quotient_is_the_nearest_float(numbers: list[int]) -> None:
    frame = pl.DataFrame({"n": numbers}, schema={"n": pl.Int64})
    assert frame.select(parse("n / 10")).to_series().to_list() == [number / 10 for number in numbers]


def test_an_expression_without_a_constant_divisor_is_left_alone() -> None:
    assert parse("x / n").meta.eq(pl.sql_expr("x / n"))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_rewritten_expression_keeps_every_bit_of_its_literals(number: float) -> None:
    added = with_exact_division(pl.col("x") / 3 + pl.lit(number))
    value = pl.DataFrame({"x": [0.0]}).select(added).item()
    assert value == number or (math.isnan(number) and math.isnan(value))


@pytest.mark.parametrize(
    "expression",
    [
        pl.col("single") / 3,
        pl.col("single") / 3.5,
        pl.col("single") / pl.lit(3, pl.Float64),
        pl.col("small") % 3,
        pl.col("small") // 3,
        pl.col("small") / 3,
        pl.col("small") // 300,
        pl.col("double") // pl.lit(3, pl.Int8),
        pl.col("span") / 3,
        pl.col("span") / 2.5,
        pl.col("span") / timedelta(hours=1),
        pl.col("bytes").bin.size() / 3,
        pl.col("bytes").bin.size() % 3,
    ],
)
def test_the_type_of_a_quotient_stays(expression: pl.Expr) -> None:
    columns = {"single": pl.Float32, "double": pl.Float64, "small": pl.Int8, "span": pl.Duration("us")}
    rows = {"single": [1.5, 7.0], "double": [1.5, 7.0], "small": [5, 7], "span": [timedelta(hours=3)] * 2}
    frame = pl.DataFrame(rows, schema=columns).with_columns(bytes=pl.Series([b"abcd", b"a"]))
    once, again = frame.select(it=expression), frame.select(it=with_exact_division(expression))
    assert again.schema == once.schema
    assert again["it"].to_list() == pytest.approx(once["it"].to_list(), rel=1e-6)


def test_hours_between_two_moments_are_a_quotient_of_durations() -> None:
    frame = pl.DataFrame({"span": [timedelta(minutes=90), timedelta(hours=2)]})
    assert frame.select(parse("span / INTERVAL '1 hour'")).to_series().to_list() == [1.5, 2.0]


@given(st.integers(-(10**9), 10**9))
def test_a_literal_with_a_point_is_a_float(number: int) -> None:
    frame = pl.DataFrame({"n": [number]})
    asked = {"quotient": "n / 7.0", "product": "n * 1.5", "sum": "n + 0.1", "negative": "n / -0.3", "alone": "0.1"}
    value = frame.select(**{name: parse(text) for name, text in asked.items()}).row(0)
    assert value == (number / 7.0, number * 1.5, number + 0.1, number / -0.3, 0.1)
