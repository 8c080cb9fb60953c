"""Entity rows, values, and the point-in-time join's definition read literally: the oracle of its tests."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import strategies as st

from feature_repo.timestamps import UTC_MICROSECONDS

START = datetime(2013, 11, 3, 4, tzinfo=UTC)
TTL = timedelta(hours=2)
# Half hours and the microsecond on either side: ties, ttl edges and window edges are common, not rare.
MOMENTS = st.integers(0, 12).flatmap(lambda n: st.sampled_from([n * 1_800_000_000 + d for d in (-1, 0, 1)]))
KEYS = st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, None]))
ENTITIES = st.lists(st.tuples(KEYS, MOMENTS), max_size=12)
Rows = list[tuple[tuple[str | None, int | None], int]]
Value = tuple[tuple[str | None, int | None], int | None, int | None, int | None]
VALUES = st.lists(
    st.tuples(
        KEYS, st.one_of(MOMENTS, st.none()), st.one_of(MOMENTS, st.none()), st.one_of(st.none(), st.integers(0, 99))
    ),
    max_size=15,
)


@dataclass(frozen=True)
class Case:
    """How a view is declared: which keys join it, whether values have a creation time, whether they expire."""

    keys: tuple[str, ...]
    has_created: bool
    ttl: timedelta


CASES = [
    Case(keys, has_created, ttl)
    for keys in (("name",), ("name", "number"), ())
    for has_created in (False, True)
    for ttl in (TTL, timedelta(0))
]


def at(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else START + timedelta(microseconds=microseconds)


def tables(entities: Rows, values: list[Value]) -> tuple[pl.DataFrame, pl.DataFrame]:
    keys = {"name": pl.String, "number": pl.Int64}
    left = pl.DataFrame(
        [(*key, at(t)) for key, t in entities], schema={**keys, "moment": UTC_MICROSECONDS}, orient="row"
    )
    right = pl.DataFrame(
        [(*key, at(t), at(t if created is None else created), value) for key, t, created, value in values],
        schema={**keys, "of": UTC_MICROSECONDS, "written": UTC_MICROSECONDS, "value": pl.Int64},
        orient="row",
    )
    return left, right


def literal(entities: pl.DataFrame, values: pl.DataFrame, case: Case) -> list[int | None]:
    """The definition, read literally, one entity row at a time."""
    result: list[int | None] = []
    rows = list(values.iter_rows(named=True))
    for entity in entities.iter_rows(named=True):
        usable = [
            (row["of"], row["written"] if case.has_created else row["of"], place)
            for place, row in enumerate(rows)
            if all(row[key] is not None and row[key] == entity[key] for key in case.keys)
            and row["of"] is not None
            and row["of"] <= entity["moment"]
            and (not case.has_created or row["written"] <= entity["moment"])
        ]
        newest = max(usable, default=None)
        is_alive = newest is not None and (not case.ttl or newest[0] >= entity["moment"] - case.ttl)
        result.append(rows[newest[2]]["value"] if newest is not None and is_alive else None)
    return result
