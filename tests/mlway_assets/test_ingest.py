import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from configs.environments import Lake as LakeAddress
from configs.sources import FilesSource, SqlSource
from mlway_assets.ingest import ingest_days, ingest_snapshot
from mlway_assets.lake import Lake
from mlway_assets.sources.build import build_reader
from mlway_assets.sources.reading import SourceError, TableReader

DAYS = [date(2013, 10, 1), date(2013, 10, 2), date(2013, 10, 3)]
NOW, LATER = datetime(2013, 10, 4, tzinfo=UTC), datetime(2013, 10, 5, tzinfo=UTC)
OWNED = {"name": "shop", "description": "Deliveries.", "owner": "team:shop"}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LakeAddress(uri=str(tmp_path / "lake")))


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder with one delivery for each day."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    for day in DAYS:
        deliver(folder, day, day.day)
    return folder


def deliver(folder: Path, day: date, *ids: int) -> None:
    (folder / f"{day}.csv").write_text("id,day\n" + "".join(f"{number},{day}\n" for number in ids))


def read_files(path: Path) -> TableReader:
    event_day = ["day"] if "{day}" in path.name else []
    columns = {"id": "int64", "day": "date"}
    table = {"description": "x", "path": str(path), "format": "csv", "columns": columns, "event_day": event_day}
    source = FilesSource.model_validate(OWNED | {"kind": "files", "tables": {"deliveries": table}})
    return build_reader(source, "deliveries")


@pytest.fixture
def reader(inbox: Path) -> TableReader:
    return read_files(inbox / "{day}.csv")


def content(lake: Lake) -> list[tuple[date, int]]:
    return lake.scan("raw", "deliveries").select("event_day", "id").sort("id").collect().rows()


def test_every_row_says_when_and_from_where_it_came(reader: TableReader, lake: Lake) -> None:
    done = ingest_days(reader, lake, "deliveries", DAYS, NOW)
    frame = lake.scan("raw", "deliveries").collect()
    assert (done.version, done.days, dict(done.failures), len(done.frame)) == (0, tuple(DAYS), {}, 3)
    assert set(frame["ingested_at"]) == {NOW}
    assert set(frame["ingested_from"]) == {reader.place}


def test_ingesting_twice_leaves_the_same_rows(reader: TableReader, lake: Lake) -> None:
    ingest_days(reader, lake, "deliveries", DAYS, NOW)
    before = content(lake)
    ingest_days(reader, lake, "deliveries", DAYS, LATER)
    assert content(lake) == before == [(day, day.day) for day in DAYS]


def test_exactly_the_asked_days_are_replaced(inbox: Path, reader: TableReader, lake: Lake) -> None:
    ingest_days(reader, lake, "deliveries", DAYS, NOW)
    for day in DAYS:
        deliver(inbox, day, day.day * 10, day.day * 10 + 1)
    ingest_days(reader, lake, "deliveries", [DAYS[1]], LATER)
    assert content(lake) == [(DAYS[0], 1), (DAYS[2], 3), (DAYS[1], 20), (DAYS[1], 21)]
    stamps = lake.scan("raw", "deliveries").sort("id").collect()["ingested_at"].to_list()
    assert stamps == [NOW, NOW, LATER, LATER]


def test_a_day_that_fails_keeps_what_it_had_and_the_others_are_written(
    inbox: Path, reader: TableReader, lake: Lake
) -> None:
    ingest_days(reader, lake, "deliveries", DAYS, NOW)
    for day in DAYS:
        deliver(inbox, day, day.day * 10)
    (inbox / f"{DAYS[1]}.csv").write_text(f"id,day\n20,{DAYS[1]}\n2")  # 20 is whole, and must not be written either
    done = ingest_days(reader, lake, "deliveries", DAYS, LATER)
    assert content(lake) == [(DAYS[1], 2), (DAYS[0], 10), (DAYS[2], 30)]
    assert (done.version, done.days) == (1, (DAYS[0], DAYS[2]))
    assert f"{DAYS[1]}.csv: is truncated" in str(done.failures[DAYS[1]])


def test_a_day_whose_file_has_no_rows_any_more_is_emptied(inbox: Path, reader: TableReader, lake: Lake) -> None:
    ingest_days(reader, lake, "deliveries", DAYS, NOW)
    deliver(inbox, DAYS[1])
    done = ingest_days(reader, lake, "deliveries", [DAYS[1]], LATER)
    assert (done.days, dict(done.failures)) == ((DAYS[1],), {})
    assert content(lake) == [(DAYS[0], 1), (DAYS[2], 3)]


def test_when_every_day_fails_nothing_is_committed(inbox: Path, reader: TableReader, lake: Lake) -> None:
    for path in inbox.iterdir():
        path.write_text("id,day\n1")
    done = ingest_days(reader, lake, "deliveries", DAYS, NOW)
    assert (done.version, done.days, list(done.failures)) == (None, (), DAYS)
    assert not lake.exists("raw", "deliveries")


def test_a_snapshot_is_replaced_whole(inbox: Path, lake: Lake) -> None:
    reader = read_files(inbox / "*.csv")
    ingest_snapshot(reader, lake, "deliveries", NOW)
    (inbox / f"{DAYS[0]}.csv").unlink()
    done = ingest_snapshot(reader, lake, "deliveries", LATER)
    frame = lake.scan("raw", "deliveries").sort("id").collect()
    assert (done.version, frame["id"].to_list(), set(frame["ingested_at"])) == (1, [2, 3], {LATER})


def test_a_snapshot_that_fails_writes_nothing(inbox: Path, lake: Lake) -> None:
    reader = read_files(inbox / "*.csv")
    ingest_snapshot(reader, lake, "deliveries", NOW)
    (inbox / f"{DAYS[2]}.csv").write_text("id,day\n3")
    with pytest.raises(SourceError, match=f"{DAYS[2]}.csv: is truncated"):
        ingest_snapshot(reader, lake, "deliveries", LATER)
    assert lake.version("raw", "deliveries") == 0
    assert set(lake.scan("raw", "deliveries").collect()["ingested_at"]) == {NOW}


def test_a_row_corrected_in_a_database_is_corrected_in_the_lake(
    tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DATABASE", f"sqlite:///{tmp_path / 'shop.db'}")
    columns = {"id": "int64", "day": "date", "change": "int64"}
    more = {"event_day": ["day"], "cursor_column": "change"}
    table = {"description": "x", "table": "deliveries", "columns": columns} | more
    source = {"kind": "sql", "uri_secret": "SHOP_DATABASE", "tables": {"deliveries": table}}
    reader = build_reader(SqlSource.model_validate(OWNED | source), "deliveries")
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE deliveries (id INTEGER, day TEXT, change INTEGER)")
        database.executemany("INSERT INTO deliveries VALUES (?, ?, ?)", [(d.day, d.isoformat(), d.day) for d in DAYS])
    first = reader.changes(None)
    ingest_days(reader, lake, "deliveries", first.days, NOW)

    with database:
        database.execute("UPDATE deliveries SET id = 20, change = 9 WHERE id = 2")
    database.close()
    second = reader.changes(first.cursor)
    done = ingest_days(reader, lake, "deliveries", second.days, LATER)

    assert done.days == (DAYS[1],)
    assert content(lake) == [(DAYS[0], 1), (DAYS[2], 3), (DAYS[1], 20)]
