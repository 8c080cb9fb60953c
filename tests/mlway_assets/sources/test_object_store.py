from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from configs.environments import Lake as LakeAddress
from configs.secrets import MissingSecretError
from mlway_assets.ingest import ingest_days
from mlway_assets.lake import Lake, MissingTableError
from mlway_assets.sources.files import FilesReader
from mlway_assets.sources.reading import SourceError

DAYS = [date(2013, 10, 1), date(2013, 10, 2), date(2013, 10, 3)]
NOW = datetime(2013, 10, 4, tzinfo=UTC)
COLUMNS = {"id": "int64", "at": "timestamp"}
Build = Callable[..., FilesReader]
Encode = Callable[..., bytes]


def rows(day: date) -> list[dict[str, Any]]:
    return [{"id": day.day, "at": datetime(day.year, day.month, day.day, 5, 0, 0, 1, tzinfo=UTC)}]


@pytest.fixture
def reader(bucket: Any, files_reader: Build) -> Build:
    def build(file_format: str = "csv", path: str = "", place: dict[str, Any] | None = None) -> FilesReader:
        path = path or f"s3://{bucket.name}/inbox/{{day}}.{file_format}"
        event_day = ["at"] if "{day}" in path else []
        return files_reader(path, file_format, bucket.place | (place or {}), columns=COLUMNS, event_day=event_day)

    return build


@pytest.fixture
def lake(bucket: Any) -> Lake:
    return Lake(LakeAddress(uri=f"s3://{bucket.name}/lake", **bucket.place))


@pytest.mark.parametrize("file_format", ["csv", "parquet", "ndjson"])
def test_days_are_read_from_s3(bucket: Any, reader: Build, encode: Encode, file_format: str) -> None:
    for day in DAYS[:2]:
        bucket.put(f"inbox/{day}.{file_format}", encode(rows(day), file_format))
    read = reader(file_format).read_days(DAYS)
    assert read.frame.rows(named=True) == [rows(day)[0] | {"event_day": day} for day in DAYS[:2]]
    assert "there is no such file" in str(read.failures[DAYS[2]])


@pytest.mark.parametrize("file_format", ["csv", "parquet", "ndjson"])
def test_a_truncated_object_fails_its_day_by_name_and_no_other(
    bucket: Any, reader: Build, lake: Lake, encode: Encode, file_format: str
) -> None:
    for day in DAYS:
        content = encode(rows(day), file_format)
        end = content.index(b",2013") if file_format == "csv" else -4
        bucket.put(f"inbox/{day}.{file_format}", content[:end] if day == DAYS[1] else content)

    done = ingest_days(reader(file_format), lake, "deliveries", DAYS, NOW)

    assert list(done.failures) == [DAYS[1]]
    assert f"s3://{bucket.name}/inbox/{DAYS[1]}.{file_format}: " in str(done.failures[DAYS[1]])
    assert sorted(lake.scan("raw", "deliveries").collect()["id"]) == [1, 3]


def test_an_object_that_cannot_be_fetched_fails_its_day_alone(bucket: Any, reader: Build, encode: Encode) -> None:
    bucket.put(f"inbox/{DAYS[0]}.csv", encode(rows(DAYS[0]), "csv"))
    bucket.put(f"inbox/{DAYS[1]}.csv", encode(rows(DAYS[1]), "csv"), StorageClass="GLACIER")  # must be restored first
    read = reader().read_days(DAYS[:2])
    assert read.frame["id"].to_list() == [1]
    assert f"/inbox/{DAYS[1]}.csv: cannot be read: " in str(read.failures[DAYS[1]])


def test_a_snapshot_is_read_from_s3(bucket: Any, reader: Build, encode: Encode) -> None:
    for name in ("shop/a.csv", "shop/b.csv", "shop/old/c.csv", "other/d.csv"):
        bucket.put(name, encode(rows(DAYS[0]), "csv"))
    assert len(reader(path=f"s3://{bucket.name}/shop/*.csv").read_snapshot()) == 2


def test_new_and_changed_objects_are_found_and_nothing_else(bucket: Any, reader: Build) -> None:
    bucket.put(f"inbox/{DAYS[0]}.csv", b"x\n")
    bucket.put(f"inbox/{DAYS[1]}.csv", b"x\n")
    first = reader().changes(None)
    assert first.days == tuple(DAYS[:2])
    assert reader().changes(first.cursor).days == ()

    bucket.put(f"inbox/{DAYS[1]}.csv", b"longer\n")
    bucket.put(f"inbox/{DAYS[2]}.csv", b"x\n")
    second = reader().changes(first.cursor)
    assert second.days == tuple(DAYS[1:])
    assert reader().changes(second.cursor).days == ()


def test_a_missing_secret_is_named(
    bucket: Any, reader: Build, lake: Lake, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(f"inbox/{DAYS[0]}.csv", encode(rows(DAYS[0]), "csv"))
    monkeypatch.delenv("SHOP_KEY")
    for use in (lambda: reader().changes(None), lambda: reader().read_days(DAYS), lambda: lake.exists("raw", "x")):
        with pytest.raises(MissingSecretError, match=r"The secret SHOP_KEY is not set\.\nHint: export SHOP_KEY="):
            use()


@pytest.mark.parametrize(
    ("path", "options", "problem"),
    [
        ("s3://no-such-bucket/inbox/{day}.csv", {}, "^s3://no-such-bucket/inbox: cannot be listed: .*404"),
        ("ftp://host/inbox/{day}.csv", {}, "^ftp://host/inbox: .*Unable to recognise URL"),
        ("", {"aws_colour": "red"}, "'aws_colour' is not valid"),
    ],
)
def test_a_wrong_address_is_an_error_that_names_it(
    bucket: Any, reader: Build, path: str, options: dict[str, str], problem: str
) -> None:
    built = reader(path=path, place={"storage_options": bucket.options | options})
    with pytest.raises(SourceError, match=problem):
        built.changes(None)
    assert list(built.read_days(DAYS).failures) == DAYS


def test_options_of_the_connection_reach_the_client(bucket: Any, reader: Build, encode: Encode) -> None:
    bucket.put(f"inbox/{DAYS[0]}.csv", encode(rows(DAYS[0]), "csv"))
    options = bucket.options | {"timeout": "20s", "connect_timeout": "5s"}
    assert len(reader(place={"storage_options": options}).read_days(DAYS[:1]).frame) == 1


def test_a_lake_on_s3_replaces_exactly_the_days_given(lake: Lake) -> None:
    assert not lake.exists("raw", "deliveries")
    with pytest.raises(MissingTableError, match="raw/deliveries"):
        lake.version("raw", "deliveries")
    first = lake.replace_days("raw", "deliveries", pl.DataFrame({"event_day": DAYS, "id": [1, 2, 3]}), DAYS)
    changed = pl.DataFrame({"event_day": [DAYS[1]] * 2, "id": [20, 21]})
    second = lake.replace_days("raw", "deliveries", changed, [DAYS[1]])
    assert lake.exists("raw", "deliveries")
    assert second == lake.version("raw", "deliveries") == first + 1
    assert sorted(lake.scan("raw", "deliveries").collect()["id"]) == [1, 3, 20, 21]
    assert sorted(lake.scan("raw", "deliveries", first).collect()["id"]) == [1, 2, 3]


def test_a_lake_on_s3_replaces_a_whole_table(lake: Lake) -> None:
    lake.replace("raw", "shops", pl.DataFrame({"id": [1, 2]}))
    lake.replace("raw", "shops", pl.DataFrame({"id": [3], "name": ["a"]}))
    assert lake.scan("raw", "shops").collect().rows() == [(3, "a")]
