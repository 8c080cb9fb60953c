"""The point-in-time join against a literal reading of its definition."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.point_in_time import UTC_MICROSECONDS, View, point_in_time_join

START = datetime(2013, 11, 3, 4, tzinfo=UTC)
TTL = timedelta(hours=2)
MOMENTS = st.integers(0, 12).flatmap(lambda n: st.sampled_from([n * 1_800_000_000 + d for d in (-1, 0, 1)]))
ENTITIES = st.lists(st.tuples(st.sampled_from(["a", "b", None]), MOMENTS), max_size=12)
VALUES = st.lists(st.tuples(st.sampled_from(["a", "b"]), MOMENTS, MOMENTS, st.integers(0, 99)), max_size=15)


def at(microseconds: int) -> datetime:
    return START + timedelta(microseconds=microseconds)


def join(
    entities: list[tuple[str | None, int]], values: list[tuple[str, int, int, int]], known_only: bool
) -> list[int]:
    left = pl.DataFrame(
        [(key, at(t)) for key, t in entities], schema={"key": pl.String, "moment": UTC_MICROSECONDS}, orient="row"
    )
    right = pl.DataFrame(
        [(key, at(t), at(max(t, created)), value) for key, t, created, value in values],
        schema={"key": pl.String, "of": UTC_MICROSECONDS, "written": UTC_MICROSECONDS, "value": pl.Int64},
        orient="row",
    ).unique(["key", "of", "written"], keep="first", maintain_order=True)
    view = View(right.lazy(), ["key"], ["value"], "of", "written", TTL, known_only)
    joined = point_in_time_join(left.lazy(), "moment", [view]).collect()
    assert joined.select("key", "moment").equals(left)
    return joined["value"].to_list()


def literal(
    entities: list[tuple[str | None, int]], values: list[tuple[str, int, int, int]], known_only: bool
) -> list[int | None]:
    kept: dict[tuple[str, int, int], int] = {}
    for key, t, created, value in values:
        kept.setdefault((key, t, max(t, created)), value)
    result: list[int | None] = []
    for key, moment in entities:
        usable = [
            (t, created, value)
            for (k, t, created), value in kept.items()
            if k == key and t <= moment and (not known_only or created <= moment)
        ]
        newest = max(usable, default=None)
        is_alive = newest is not None and at(newest[0]) >= at(moment) - TTL
        result.append(newest[2] if newest is not None and is_alive else None)
    return result


@settings(max_examples=200, deadline=None)
@given(ENTITIES, VALUES)
def test_every_row_gets_the_newest_value_that_is_not_after_it(
    entities: list[tuple[str | None, int]], values: list[tuple[str, int, int, int]]
) -> None:
    assert join(entities, values, known_only=False) == literal(entities, values, known_only=False)


@settings(max_examples=200, deadline=None)
@given(ENTITIES, VALUES)
def test_a_value_written_after_the_moment_is_not_seen_when_asked_so(
    entities: list[tuple[str | None, int]], values: list[tuple[str, int, int, int]]
) -> None:
    assert join(entities, values, known_only=True) == literal(entities, values, known_only=True)
