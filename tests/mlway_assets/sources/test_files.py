import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from configs.environments import Lake as LakeAddress
from feature_repo.column_types import POLARS_TYPES
from mlway_assets.ingest import ingest_days
from mlway_assets.lake import Lake
from mlway_assets.sources.files import FilesReader
from mlway_assets.sources.reading import SourceError

DAYS = [date(2013, 10, 1), date(2013, 10, 2), date(2013, 10, 3)]
BROKEN = DAYS[1]
FORMATS = ["csv", "parquet", "ndjson"]
NOW = datetime(2013, 10, 4, tzinfo=UTC)
Build = Callable[..., FilesReader]
Encode = Callable[..., bytes]


def row(day: date, **other: Any) -> dict[str, Any]:
    at = datetime(day.year, day.month, day.day, 5, 0, 0, 1, tzinfo=UTC)
    return {"id": day.day, "day": day, "at": at, "price": 2.5, "is_open": True, "name": "a"} | other


@pytest.fixture(params=FORMATS)
def inbox(request: pytest.FixtureRequest, tmp_path: Path, encode: Encode, files_reader: Build) -> tuple[str, Build]:
    """A folder with a file for each day, in each format in turn, and the reader of it."""
    folder, file_format = tmp_path / "inbox", request.param
    folder.mkdir()
    for day in DAYS:
        (folder / f"{day}.{file_format}").write_bytes(encode([row(day)], file_format))
    return file_format, lambda **table: files_reader(folder / f"{{day}}.{file_format}", file_format, **table)


def broken_file(tmp_path: Path, file_format: str) -> Path:
    return tmp_path / "inbox" / f"{BROKEN}.{file_format}"


def test_every_format_reads_as_declared(inbox: tuple[str, Build]) -> None:
    reader = inbox[1]()
    read = reader.read_days(DAYS)
    assert not read.failures
    assert read.frame.rows(named=True) == [row(day) | {"event_day": day} for day in DAYS]
    assert all(read.frame[name].dtype == POLARS_TYPES[kind] for name, kind in reader.table.columns.items())


def test_only_the_asked_days_are_read(inbox: tuple[str, Build]) -> None:
    assert inbox[1]().read_days([DAYS[0], DAYS[2]]).frame["event_day"].to_list() == [DAYS[0], DAYS[2]]


def remove(path: Path, encode: Encode) -> None:
    path.unlink()


def cut(path: Path, encode: Encode) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b",")] if path.suffix == ".csv" else content[:-5])


def fill_with_noise(path: Path, encode: Encode) -> None:
    path.write_bytes(b"\x00\xff\xfe<html>" * 50)


def empty(path: Path, encode: Encode) -> None:
    path.write_bytes(b"")


def mistype(path: Path, encode: Encode) -> None:
    path.write_bytes(encode([row(BROKEN, price="cheap")], path.suffix[1:]))


def leave_out_a_column(path: Path, encode: Encode) -> None:
    path.write_bytes(encode([{k: v for k, v in row(BROKEN).items() if k != "price"}], path.suffix[1:]))


def add_a_column(path: Path, encode: Encode) -> None:
    path.write_bytes(encode([row(BROKEN, colour="red")], path.suffix[1:]))


def leave_out_the_zone(path: Path, encode: Encode) -> None:
    path.write_bytes(encode([row(BROKEN, at="2013-10-02T00:00:00")], path.suffix[1:]))


def deliver_another_day(path: Path, encode: Encode) -> None:
    path.write_bytes(encode([row(BROKEN), row(DAYS[0])], path.suffix[1:]))


def leave_out_the_day(path: Path, encode: Encode) -> None:
    path.write_bytes(encode([row(BROKEN), row(DAYS[0]) | {"day": None}], path.suffix[1:]))


BREAKAGES = [
    (remove, "there is no such file"),
    (cut, "truncated|cannot be read"),
    (fill_with_noise, "truncated|cannot be read|columns differ"),
    (empty, "truncated|cannot be read"),
    (mistype, "'price' does not read as float64"),
    (leave_out_a_column, r"missing \['price'\]"),
    (add_a_column, r"not declared \['colour'\]"),
    (leave_out_the_zone, "'at' does not read as timestamp"),
    (deliver_another_day, "1 rows are of other days, such as 2013-10-01"),
    (leave_out_the_day, "1 rows are of other days, such as None"),
]


@pytest.mark.parametrize(("break_file", "problem"), BREAKAGES, ids=[f.__name__ for f, _ in BREAKAGES])
def test_a_broken_file_fails_its_day_by_name_and_no_other(
    inbox: tuple[str, Build],
    tmp_path: Path,
    encode: Encode,
    break_file: Callable[[Path, Encode], None],
    problem: str,
) -> None:
    file_format, build = inbox
    lake = Lake(LakeAddress(uri=str(tmp_path / "lake")))
    break_file(broken_file(tmp_path, file_format), encode)

    done = ingest_days(build(), lake, "deliveries", DAYS, NOW)

    assert list(done.failures) == [BROKEN]
    with pytest.raises(SourceError, match=rf"inbox/{BROKEN}.{file_format}: .*({problem})"):
        raise done.failures[BROKEN]
    assert done.days == (DAYS[0], DAYS[2])
    assert lake.scan("raw", "deliveries").sort("day").collect()["day"].to_list() == [DAYS[0], DAYS[2]]


def test_nanosecond_timestamps_in_parquet_become_utc_microseconds(tmp_path: Path, files_reader: Build) -> None:
    at = pl.Series("at", [datetime(2013, 10, 1, 23, 30, tzinfo=UTC)], pl.Datetime("ns", "America/New_York"))
    pl.DataFrame({"at": at}).write_parquet(tmp_path / "2013-10-01.parquet")
    reader = files_reader(tmp_path / "{day}.parquet", "parquet", columns={"at": "timestamp"}, event_day=["at"])
    frame = reader.read_days(DAYS[:1]).frame
    assert (frame["at"].dtype, frame["at"][0]) == (pl.Datetime("us", "UTC"), datetime(2013, 10, 1, 23, 30, tzinfo=UTC))


@pytest.mark.parametrize("file_format", FORMATS)
def test_timestamps_without_a_zone_need_the_tables(
    tmp_path: Path, encode: Encode, files_reader: Build, file_format: str
) -> None:
    on_the_wall = datetime(2013, 10, 1, 22, 30)  # noqa: DTZ001 - what such a file holds
    (tmp_path / "2013-10-01").write_bytes(encode([{"at": on_the_wall}], file_format))
    table = {"columns": {"at": "timestamp"}, "event_day": ["at"]}
    refused = files_reader(tmp_path / "{day}", file_format, **table).read_days(DAYS[:1]).failures[DAYS[0]]
    assert "/2013-10-01: column 'at'" in str(refused)
    assert "naive_timestamps" in str(refused)
    reader = files_reader(tmp_path / "{day}", file_format, naive_timestamps="America/New_York", **table)
    assert reader.read_days(DAYS[:1]).frame.rows() == [(datetime(2013, 10, 2, 2, 30, tzinfo=UTC), DAYS[0])]


@pytest.mark.parametrize("file_format", ["csv", "ndjson"])
def test_a_moment_with_an_offset_is_of_its_day_in_utc(
    tmp_path: Path, encode: Encode, files_reader: Build, file_format: str
) -> None:
    content = encode([{"at": "2013-09-30T22:30:00.25-05:00"}], file_format)
    (tmp_path / "2013-10-01").write_bytes(content)
    reader = files_reader(tmp_path / "{day}", file_format, columns={"at": "timestamp"}, event_day=["at"])
    assert reader.read_days(DAYS[:1]).frame["at"].to_list() == [datetime(2013, 10, 1, 3, 30, 0, 250_000, tzinfo=UTC)]


def test_a_day_may_have_a_folder_of_files(tmp_path: Path, encode: Encode, files_reader: Build) -> None:
    for name, number in (("day=2013-10-01/a.csv", 1), ("day=2013-10-01/b.csv", 2), ("day=2013-10-01/old/c.csv", 3)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode([row(DAYS[0], id=number)], "csv"))
    reader = files_reader(tmp_path / "day={day}" / "*.csv")
    assert reader.read_days(DAYS[:1]).frame["id"].to_list() == [1, 2]
    assert reader.changes(None).days == (DAYS[0],)


def test_a_day_whose_file_has_only_a_header_is_a_day_without_rows(tmp_path: Path, files_reader: Build) -> None:
    (tmp_path / "2013-10-01.csv").write_text("id,day,at,price,is_open,name\n")
    read = files_reader(tmp_path / "{day}.csv").read_days(DAYS[:1])
    assert (len(read.frame), dict(read.failures)) == (0, {})


def test_a_snapshot_is_all_matching_files(tmp_path: Path, encode: Encode, files_reader: Build) -> None:
    for name in ("shop-a.csv", "shop-b.csv", "other.csv"):
        (tmp_path / name).write_bytes(encode([row(DAYS[0], name=name)], "csv"))
    frame = files_reader(tmp_path / "shop-*.csv").read_snapshot()
    assert frame["name"].to_list() == ["shop-a.csv", "shop-b.csv"]


def test_a_broken_file_fails_the_whole_snapshot(tmp_path: Path, encode: Encode, files_reader: Build) -> None:
    (tmp_path / "shop-a.csv").write_bytes(encode([row(DAYS[0])], "csv"))
    (tmp_path / "shop-b.csv").write_text("id,day\n1")
    with pytest.raises(SourceError, match=r"shop-b\.csv: is truncated"):
        files_reader(tmp_path / "shop-*.csv").read_snapshot()


def test_null_values_are_the_declared_ones(tmp_path: Path, files_reader: Build) -> None:
    (tmp_path / "shop.csv").write_text("id,name\nNA,NA\n1,x\n")
    reader = files_reader(tmp_path / "shop.csv", columns={"id": "int64", "name": "string"}, null_values=["NA"])
    assert reader.read_snapshot().rows() == [(None, None), (1, "x")]


def test_a_missing_folder_is_named(tmp_path: Path, files_reader: Build) -> None:
    reader = files_reader(tmp_path / "nowhere" / "{day}.csv")
    with pytest.raises(SourceError, match="/nowhere: there is no such folder"):
        reader.changes(None)
    assert list(reader.read_days(DAYS).failures) == DAYS


def test_new_and_changed_files_are_found_and_nothing_else(inbox: tuple[str, Build], tmp_path: Path) -> None:
    file_format, build = inbox
    first = build().changes(None)
    assert (first.days, first.has_snapshot_changed) == (tuple(DAYS), False)
    assert build().changes(first.cursor).days == ()

    grown, new = broken_file(tmp_path, file_format), tmp_path / "inbox" / f"2013-10-04.{file_format}"
    grown.write_bytes(grown.read_bytes() + b"\n")
    new.write_bytes(b"")
    second = build().changes(first.cursor)
    assert second.days == (BROKEN, date(2013, 10, 4))
    assert build().changes(second.cursor).days == ()


def test_a_file_that_keeps_its_size_is_changed_when_it_is_newer(tmp_path: Path, files_reader: Build) -> None:
    path = tmp_path / "2013-10-01.csv"
    path.write_text("x\n")
    reader = files_reader(tmp_path / "{day}.csv")
    cursor = reader.changes(None).cursor
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 60))
    assert reader.changes(cursor).days == (DAYS[0],)


@pytest.mark.parametrize("name", ["readme.csv", "2013-02-30.csv", "2013-1-1.csv", "2013-10-01.csv.part"])
def test_a_file_that_is_no_days_is_left_alone(tmp_path: Path, files_reader: Build, name: str) -> None:
    (tmp_path / name).write_text("x\n")
    assert files_reader(tmp_path / "{day}.csv").changes(None).days == ()


def test_a_snapshot_has_changed_when_one_of_its_files_has(tmp_path: Path, files_reader: Build) -> None:
    reader = files_reader(tmp_path / "shop-*.csv")
    (tmp_path / "shop-a.csv").write_text("x\n")
    first = reader.changes(None)
    assert (first.days, first.has_snapshot_changed) == ((), True)
    assert not reader.changes(first.cursor).has_snapshot_changed
    (tmp_path / "shop-b.csv").write_text("x\n")
    assert reader.changes(first.cursor).has_snapshot_changed
