"""A request of one row gets the bits that a training row gets."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.expressions import parse

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
    "CASE WHEN x > 0 THEN x / 3 ELSE n / 11 END",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
@given(rows=ROWS)
def test_one_row_gives_the_bits_that_many_rows_give(text: str, rows: list[tuple[int, float]]) -> None:
    frame = pl.DataFrame(rows, schema={"n": pl.Int64, "x": pl.Float64}, orient="row")
    many = frame.lazy().select(it=parse(text)).collect()["it"]
    single = pl.concat([frame[row].select(it=parse(text)) for row in range(len(frame))])["it"]
    assert many.reinterpret(signed=False).equals(single.reinterpret(signed=False))


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1))
def test_a_quotient_is_the_nearest_float(numbers: list[int]) -> None:
    frame = pl.DataFrame({"n": numbers}, schema={"n": pl.Int64})
    assert frame.select(parse("n / 10")).to_series().to_list() == [number / 10 for number in numbers]


def test_an_expression_without_a_constant_divisor_is_left_alone() -> None:
    assert parse("x / n").meta.eq(pl.sql_expr("x / n"))
