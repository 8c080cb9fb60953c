from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from configs.schema import ColumnType
from configs.sources import EVENT_DAY, SourceTable
from feature_repo.column_types import POLARS_TYPES
from mlway_assets.sources.reading import SourceError, conform

EAST = timezone(timedelta(hours=2))
MIDNIGHT, NOON = datetime(2013, 10, 1, tzinfo=UTC), datetime(2013, 10, 1, 12, tzinfo=UTC)


def declare(event_day: tuple[str, ...] = (), **columns: ColumnType) -> SourceTable:
    return SourceTable(description="Deliveries.", columns=columns, event_day=event_day)


def read(values: list[Any] | pl.Series, kind: ColumnType) -> pl.Series:
    return conform(pl.DataFrame({"value": values}), declare(value=kind), "shop.csv")["value"]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("int64", ["-7", None], [-7, None]),
        ("int64", [7.0, None], [7, None]),
        ("float64", ["2.5", "1e3"], [2.5, 1000.0]),
        ("float64", [Decimal("1.15")], [1.15]),
        ("boolean", ["true", "False", None], [True, False, None]),
        ("boolean", [1, 0], [True, False]),
        ("date", ["2013-10-01", None], [date(2013, 10, 1), None]),
        ("date", [MIDNIGHT.replace(tzinfo=None)], [date(2013, 10, 1)]),
        ("timestamp", ["2013-10-01T14:00:00+02:00", None], [NOON, None]),
        ("timestamp", ["2013-10-01T12:00:00.000001Z"], [NOON + timedelta(microseconds=1)]),
        ("timestamp", [datetime(2013, 10, 1, 14, tzinfo=EAST)], [NOON]),
        ("string", ["a", None], ["a", None]),
        ("string", [5], ["5"]),
    ],
)
def test_values_become_the_declared_type(kind: ColumnType, given: list[Any], expected: list[Any]) -> None:
    column = read(given, kind)
    assert (column.dtype, column.to_list()) == (POLARS_TYPES[kind], expected)


@pytest.mark.parametrize(
    ("kind", "given", "problem"),
    [
        ("int64", ["cheap"], "cheap"),
        ("int64", ["2.5"], "2.5"),
        ("int64", [2.5], "values of Float64 would be changed"),
        ("int64", [float("nan")], "NaN"),
        ("float64", ["1,5"], "1,5"),
        ("boolean", ["yes"], ""),
        ("boolean", [2], "values of Int64 would be changed"),
        ("date", ["01/10/2013"], "01/10/2013"),
        ("date", ["2013-02-30"], "2013-02-30"),
        ("date", [15_979], "Int64 values are no dates"),
        ("date", [NOON.replace(tzinfo=None)], "would be changed"),
        ("timestamp", ["2013-10-01T12:00:00"], "2013-10-01T12:00:00"),
        ("timestamp", [NOON.replace(tzinfo=None)], "carry no time zone"),
        ("timestamp", [date(2013, 10, 1)], "carry no time zone"),
        ("timestamp", [1_380_628_800], "Int64 values are no timestamps"),
    ],
)
def test_a_value_that_is_not_of_the_declared_type_is_refused(kind: ColumnType, given: list[Any], problem: str) -> None:
    with pytest.raises(SourceError, match=f"^shop.csv: column 'value' does not read as {kind}: .*{problem}"):
        read(given, kind)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_timestamps_of_any_precision_become_utc_microseconds(unit: str) -> None:
    column = read(pl.Series([NOON], dtype=pl.Datetime(unit, "Europe/Paris")), "timestamp")
    assert (column.dtype, column[0]) == (pl.Datetime("us", "UTC"), NOON)


@pytest.mark.parametrize("kind", list(POLARS_TYPES))
@pytest.mark.parametrize("stored", [pl.Null, pl.Int64, pl.String])
def test_a_column_of_nulls_is_of_any_type(kind: ColumnType, stored: type[pl.DataType]) -> None:
    column = read(pl.Series([None, None], dtype=stored), kind)
    assert (column.dtype, column.null_count()) == (POLARS_TYPES[kind], 2)


def test_columns_come_in_the_order_declared() -> None:
    frame = conform(pl.DataFrame({"b": [1], "a": [2]}), declare(a="int64", b="int64"), "shop.csv")
    assert frame.to_dict(as_series=False) == {"a": [2], "b": [1]}


def test_missing_and_unknown_columns_are_both_named() -> None:
    with pytest.raises(SourceError, match=r"^shop.csv: .*missing \['price'\], not declared \['prize'\]\nHint: "):
        conform(pl.DataFrame({"id": [1], "prize": [2]}), declare(id="int64", price="int64"), "shop.csv")


def test_the_event_day_of_a_timestamp_is_its_day_in_utc() -> None:
    late = datetime(2013, 10, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    frame = pl.DataFrame({"at": [late, late + timedelta(microseconds=1)]})
    days = conform(frame, declare(("at",), at="timestamp"), "shop.csv")[EVENT_DAY].to_list()
    assert days == [date(2013, 10, 1), date(2013, 10, 2)]


def test_the_event_day_is_put_together_from_year_month_and_day() -> None:
    table = declare(("year", "month", "day"), year="int64", month="int64", day="int64")
    frame = pl.DataFrame({"year": [2012], "month": [2], "day": [29]})
    assert conform(frame, table, "shop.csv")[EVENT_DAY].to_list() == [date(2012, 2, 29)]
