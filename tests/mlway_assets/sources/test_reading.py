from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from configs.schema import ColumnType
from configs.sources import EVENT_DAY, FileTable, SourceTable
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


@pytest.mark.parametrize(
    ("nanoseconds", "microseconds"), [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (-1, 0), (-1000, -1), (-1001, -1)]
)
def test_nanoseconds_are_rounded_up_so_that_nothing_is_seen_too_early(nanoseconds: int, microseconds: int) -> None:
    stored = pl.Series([nanoseconds]).cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone("Asia/Tokyo")
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert read(stored, "timestamp").to_list() == [expected]


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2013-10-01T12:00:00.0000001Z", 1),
        ("2013-10-01T12:00:00.000001000Z", 1),
        ("2013-10-01T14:00:00.000001001+02:00", 2),
        ("2013-10-01 12:00:00.1Z", 100_000),
        ("2013-10-01T11:59:59.999999999Z", 0),
    ],
)
def test_nanoseconds_in_text_are_rounded_up_too(text: str, microseconds: int) -> None:
    assert read([text, None], "timestamp").to_list() == [NOON + timedelta(microseconds=microseconds), None]


def test_the_last_nanosecond_of_a_day_is_of_that_day() -> None:
    frame = pl.DataFrame({"at": ["2013-09-30T23:59:59.999999999Z"]})
    (row,) = conform(frame, declare(("at",), at="timestamp"), "shop.csv").rows()
    assert row == (MIDNIGHT, date(2013, 9, 30))


def in_zone(zone: str | None, *event_day: str) -> FileTable:
    place = {"path": "{day}.csv" if event_day else "shop.csv", "format": "csv", "naive_timestamps": zone}
    declared = {"description": "x", "columns": {"at": "timestamp"}, "event_day": event_day}
    return FileTable.model_validate(declared | place)


NEW_YORK = in_zone("America/New_York")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([datetime(2013, 10, 1, 8)], NOON),  # noqa: DTZ001 - what a file without zones holds
        ([NOON], NOON),
        (["2013-10-01T08:00:00"], NOON),
        (["2013-10-01 08:00"], NOON),
        (["2013-10-01T07:59:59.9999999"], NOON),
        (["2013-10-01T12:00:00Z"], NOON),
        # The clocks show 01:30 twice: at 05:30 and at 06:30 UTC.
        ([datetime(2013, 11, 3, 1, 30)], datetime(2013, 11, 3, 6, 30, tzinfo=UTC)),  # noqa: DTZ001
        (["2013-11-03T01:30:00"], datetime(2013, 11, 3, 6, 30, tzinfo=UTC)),
    ],
)
def test_a_timestamp_without_a_zone_is_read_in_the_declared_one(given: list[Any], expected: datetime) -> None:
    frame = conform(pl.DataFrame({"at": given}), NEW_YORK, "shop.csv")
    assert frame["at"].to_list() == [expected]
    assert frame.schema == {"at": POLARS_TYPES["timestamp"]}


def test_text_with_and_without_offsets_may_be_in_one_column() -> None:
    frame = pl.DataFrame({"at": ["2013-10-01T08:00:00", None, "2013-10-01T14:00:00+02:00"]})
    assert conform(frame, NEW_YORK, "shop.csv")["at"].to_list() == [NOON, None, NOON]


@pytest.mark.parametrize("given", [[datetime(2013, 3, 10, 2, 30)], ["2013-03-10T02:30:00"]])  # noqa: DTZ001
def test_a_local_time_that_the_clocks_skipped_is_refused(given: list[Any]) -> None:
    with pytest.raises(SourceError, match=r"^shop\.csv: column 'at' does not read as timestamp: .*non-existent"):
        conform(pl.DataFrame({"at": given}), NEW_YORK, "shop.csv")


def test_the_event_day_of_a_timestamp_without_a_zone_is_the_day_that_it_says() -> None:
    frame = pl.DataFrame({"at": ["2013-09-30T23:00:00", "2013-10-01T03:00:00Z"]})
    read_frame = conform(frame, in_zone("America/New_York", "at"), "shop.csv")
    assert read_frame["at"].to_list() == [datetime(2013, 10, 1, 3, tzinfo=UTC)] * 2
    assert read_frame[EVENT_DAY].to_list() == [date(2013, 9, 30), date(2013, 10, 1)]


@pytest.mark.parametrize("given", [["2013-10-01T12:00:00"], [datetime(2013, 10, 1, 12)]])  # noqa: DTZ001
def test_without_a_declared_zone_the_file_the_column_and_the_remedy_are_named(given: list[Any]) -> None:
    message = r"^shop\.csv: column 'at' .*no time zone, such as 2013-10-01.12:00:00\nHint: .*naive_timestamps: Europe"
    with pytest.raises(SourceError, match=message):
        conform(pl.DataFrame({"at": given}), in_zone(None), "shop.csv")


def test_a_day_that_there_is_not_is_refused_by_name() -> None:
    table = declare(("year", "month", "day"), year="int64", month="int64", day="int64")
    with pytest.raises(SourceError, match=r"^shop\.csv: year, month, day name a day that there is not"):
        conform(pl.DataFrame({"year": [2013], "month": [13], "day": [1]}), table, "shop.csv")


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
