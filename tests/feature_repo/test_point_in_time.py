"""The point-in-time join against a literal reading of its definition: whole, in slices, and in slices run apart."""

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from join_examples import CASES, ENTITIES, START, VALUES, Case, Rows, Value, literal, tables

from feature_repo.point_in_time import View, point_in_time_join
from feature_repo.slices import (
    Join,
    in_memory,
    in_order,
    join_slice,
    joined_in_turn,
    time_slices,
    whole,
    whole_in_pieces,
)
from feature_repo.timestamps import UTC_MICROSECONDS, as_utc


def view_of(values: pl.DataFrame, case: Case) -> View:
    columns = [*case.keys, "of", *(["written"] if case.has_created else []), "value"]
    created = "written" if case.has_created else None
    # A value without a moment counts for nothing, so neither does its creation.
    frame = values.with_columns(pl.col("written").fill_null(START)).select(columns)
    return View(frame.lazy(), case.keys, ["value"], "of", created, case.ttl)


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=15, deadline=None)
@given(entities=ENTITIES, values=VALUES)
def test_every_row_gets_the_newest_value_that_was_known(case: Case, entities: Rows, values: list[Value]) -> None:
    left, right = tables(entities, values)
    joined = point_in_time_join(left, "moment", [view_of(right, case)])
    assert joined.select(left.columns).equals(left)
    assert joined["value"].to_list() == literal(left, right, case)


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=12, deadline=None)
@given(entities=ENTITIES, values=VALUES)
def test_many_entities_are_searched_as_few_are(case: Case, entities: Rows, values: list[Value]) -> None:
    left, right = tables(entities, values)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("feature_repo.as_of._FEW", 0)
        joined = point_in_time_join(left, "moment", [view_of(right, case)])
    assert joined["value"].to_list() == literal(left, right, case)


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=12, deadline=None)
@given(entities=ENTITIES, values=VALUES, rows=st.integers(1, 5))
def test_slices_give_what_the_whole_gives(case: Case, entities: Rows, values: list[Value], rows: int) -> None:
    left, right = tables(entities, values)
    join = Join(left, "moment", [view_of(right, case), _second(right)])
    expected = whole(join)
    assert expected["value"].to_list() == literal(left, right, case)
    if not entities:
        return
    assert in_memory(joined_in_turn(join, rows)).equals(expected)
    assert in_memory(join_slice(part, "moment", join.views) for part in time_slices(join, rows)).equals(expected)
    is_sorted = left["moment"].is_sorted()
    assert pl.concat(whole_in_pieces(join, rows)).equals(expected)
    pieces = list(in_order(joined_in_turn(join, rows), rows, is_sorted=is_sorted, folder=None))
    assert all(len(piece) <= rows for piece in pieces)
    assert pl.concat(pieces).equals(expected)


def _second(values: pl.DataFrame) -> View:
    """Another view of the same rows, by other keys, so that a join has several."""
    frame = values.select("number", second_of="of", second="value")
    return View(frame.lazy(), ["number"], ["second"], "second_of", None, timedelta(0))


@pytest.mark.parametrize(
    ("kind", "number", "up", "down"),
    [
        (pl.Datetime("ns", "UTC"), 1_001, 2, 1),
        (pl.Datetime("ns", "UTC"), 2_000, 2, 2),
        (pl.Datetime("ns"), -1, 0, -1),
        (pl.Datetime("ms", "America/New_York"), 1, 1_000, 1_000),
        (pl.Datetime("us"), 7, 7, 7),
        (pl.Date, 1, 86_400_000_000, 86_400_000_000),
    ],
)
def test_a_moment_between_two_microseconds_is_moved_so_that_nothing_is_seen_early(
    kind: pl.DataType, number: int, up: int, down: int
) -> None:
    frame = pl.DataFrame({"t": pl.Series([number]).cast(pl.Int32 if kind == pl.Date else pl.Int64).cast(kind)})
    for rounding, expected in (("up", up), ("down", down)):
        moved = frame.select(as_utc("t", frame.schema["t"], rounding))["t"]  # type: ignore[arg-type]
        assert moved.dtype == UTC_MICROSECONDS
        assert moved.cast(pl.Int64).to_list() == [expected]
