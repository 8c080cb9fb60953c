import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from configs.sources import EVENT_DAY, SourceTable
from feature_repo.column_types import POLARS_TYPES
from mlway_assets.compute.conversion import convert
from mlway_assets.compute.declared import CONFLICT, ExpressionError, curate_declared
from mlway_assets.compute.quarantine import COPY, Curated

FIRST, SECOND = date(2024, 3, 1), date(2024, 3, 2)
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
RAW = {"id": "int64", "price": "string", "shop": "string", "day": "date"}
ROW = {"id": 1, "price": "2.50", "shop": "a", "day": FIRST}


def declare(*, by_day: bool = False, columns: dict[str, Any] | None = None, **curated: Any) -> SourceTable:
    declared = {"key": ["id"], "columns": columns or {}} | curated
    event_day = ["day"] if by_day else []
    table = {"description": "x", "columns": RAW, "event_day": event_day, "curated": declared}
    return SourceTable.model_validate(table)


def curate(table: SourceTable, *changes: dict[str, Any]) -> Curated:
    raw = pl.DataFrame([ROW | change for change in changes], {name: POLARS_TYPES[kind] for name, kind in RAW.items()})
    return curate_declared(raw.with_columns(pl.col("day").alias(EVENT_DAY)) if table.is_partitioned else raw, table)


def reasons(curated: Curated) -> list[str]:
    return curated.quarantined["quarantine_reason"].to_list()


def test_without_columns_every_raw_column_is_kept_as_it_is() -> None:
    curated = curate(declare(), {}, {"id": 2, "price": None})
    assert curated.rows.to_dicts() == [ROW, ROW | {"id": 2, "price": None}]
    assert len(curated.quarantined) == 0


def test_a_table_kept_by_day_has_its_event_day_first() -> None:
    table = declare(by_day=True, columns={"id": {"type": "int64"}})
    assert curate(table, {}).rows.to_dict(as_series=False) == {EVENT_DAY: [FIRST], "id": [1]}


def test_columns_are_computed_from_the_raw_columns_of_their_row() -> None:
    columns = {
        "id": {"type": "int64"},
        "price": {"expression": "CAST(price AS DOUBLE) * 100", "type": "int64"},
        "label": {"expression": "UPPER(shop) || '-' || price", "type": "string"},
        "source": {"expression": "'web'", "type": "string"},
    }
    rows = curate(declare(columns=columns), {}, {"id": 2}).rows
    assert rows.row(1, named=True) == {"id": 2, "price": 250, "label": "A-2.50", "source": "web"}


def test_a_constant_makes_no_row_of_an_empty_table() -> None:
    columns = {"id": {"type": "int64"}, "source": {"expression": "'web'", "type": "string"}}
    assert curate(declare(columns=columns)).rows.shape == (0, 2)


PRICE = {"id": {"type": "int64"}, "price": {"type": "float64"}}


@pytest.mark.parametrize(
    ("change", "declared", "reason"),
    [
        ({"price": "cheap"}, {"columns": PRICE}, "price does not read as float64"),
        ({"price": "NaN"}, {"columns": PRICE}, "price does not read as float64"),
        (
            {},
            {"columns": PRICE | {"price": {"expression": "CAST(price AS DOUBLE)", "type": "int64"}}},
            "price does not read as int64",
        ),
        ({"id": None}, {}, "id is missing"),
        ({"shop": None}, {"not_null": ["shop"]}, "shop is missing"),
        ({"shop": "b"}, {"checks": {"known_shop": "shop = 'a'"}}, "known_shop does not hold: shop = 'a'"),
    ],
)
def test_a_row_that_breaks_a_rule_is_quarantined_with_the_reason_and_its_raw_values(
    change: dict[str, Any], declared: dict[str, Any], reason: str
) -> None:
    curated = curate(declare(by_day=True, **declared), change, {"id": 2, "price": "1", "day": SECOND})
    assert curated.rows["id"].to_list() == [2]
    assert curated.quarantined[EVENT_DAY].to_list() == [FIRST]
    assert reasons(curated) == [reason]
    original = json.loads(curated.quarantined["original"][0])
    assert original == ROW | change | {"day": "2024-03-01", EVENT_DAY: "2024-03-01"}


def test_a_null_where_one_may_be_is_kept_and_meets_every_check() -> None:
    table = declare(columns=PRICE, checks={"price_is_positive": "price > 0"})
    curated = curate(table, {"price": None})
    assert curated.rows.to_dicts() == [{"id": 1, "price": None}]


def test_of_rows_that_are_the_same_one_is_kept() -> None:
    curated = curate(declare(), {}, {}, {"id": 2}, {})
    assert curated.rows["id"].to_list() == [1, 2]
    assert reasons(curated) == [COPY, COPY]


def test_rows_with_one_key_and_other_values_are_all_quarantined() -> None:
    curated = curate(declare(), {}, {"id": 2}, {"price": "3"})
    assert curated.rows["id"].to_list() == [2]
    assert reasons(curated) == [CONFLICT, CONFLICT]


def test_a_bad_row_does_not_take_the_good_one_of_its_key_with_it() -> None:
    curated = curate(declare(columns=PRICE), {"price": "cheap"}, {})
    assert curated.rows.to_dicts() == [{"id": 1, "price": 2.5}]


def test_a_key_may_have_several_columns() -> None:
    assert len(curate(declare(key=["id", "shop"]), {}, {"shop": "b"}, {"id": 2}).rows) == 3


def test_what_a_day_becomes_does_not_depend_on_the_other_days_of_the_run() -> None:
    table = declare(by_day=True)
    days = [[{}, {"id": 2}], [{"day": SECOND}, {"day": SECOND, "id": 2}, {"day": SECOND, "id": 2}]]
    together = curate(table, *days[0], *days[1])
    apart = [curate(table, *day) for day in days]
    assert together.rows.equals(pl.concat([part.rows for part in apart]))
    assert together.quarantined.equals(pl.concat([part.quarantined for part in apart]))
    assert len(together.rows) == 4


def test_an_expression_that_fails_on_a_value_is_named_with_the_remedy() -> None:
    table = declare(columns=PRICE | {"price": {"expression": "CAST(price AS DOUBLE)", "type": "float64"}})
    with pytest.raises(ExpressionError, match=r"'price' cannot be computed(.|\n)*Hint: .*`type`.*TRY_CAST"):
        curate(table, {"price": "cheap"})


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        ([1.0, 2.5, float("nan"), 1e30], "int64", [1, None, None, None]),
        (["1", " 1", "1.0", "9" * 20], "int64", [1, None, None, None]),
        ([2**53, 2**53 + 1], "float64", [2.0**53, None]),
        ([1.5, float("inf")], "float64", [1.5, None]),
        ([1, 0, 2], "boolean", [True, False, None]),
        (["True", "false", "yes"], "boolean", [True, False, None]),
        (["2024-03-01", "01.03.2024", "2024-02-30"], "date", [FIRST, None, None]),
        (["2024-03-01T13:00:00+01:00", "2024-03-01T12:00:00"], "timestamp", [NOON, None]),
        (["2024-03-01T11:59:59.9999991Z"], "timestamp", [NOON]),
        ([FIRST], "string", ["2024-03-01"]),
        ([True], "string", ["true"]),
    ],
)
def test_a_value_becomes_the_declared_type_unchanged_or_not_at_all(
    given: list[Any], kind: Any, expected: list[Any]
) -> None:
    assert convert(pl.Series(given), kind).to_list() == expected


def test_nanoseconds_are_rounded_up() -> None:
    late = pl.Series([NOON]).cast(pl.Datetime("ns", "UTC")).to_physical() + 1
    moments = late.cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone("Europe/Paris")
    assert convert(moments, "timestamp").to_list() == [NOON + timedelta(microseconds=1)]
