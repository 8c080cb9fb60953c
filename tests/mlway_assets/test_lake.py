import os
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from configs.environments import Lake as LakeAddress
from configs.secrets import MissingSecretError
from mlway_assets.lake import (
    ChangedColumnsError,
    ChangedTypesError,
    ConcurrentWriteError,
    Lake,
    MissingTableError,
    MissingVersionError,
)

DAYS = [date(2013, 10, 1), date(2013, 10, 2), date(2013, 10, 3)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LakeAddress(uri=str(tmp_path)))


def rows(*values: tuple[date | None, int]) -> pl.DataFrame:
    return pl.DataFrame(values, schema={"event_day": pl.Date, "id": pl.Int64}, orient="row")


def content(lake: Lake, version: int | None = None) -> list[tuple[date, int]]:
    return lake.scan("raw", "deliveries", version).select("event_day", "id").sort("id").collect().rows()


@pytest.fixture
def filled(lake: Lake) -> Lake:
    lake.replace_days("raw", "deliveries", rows(*((day, day.day) for day in DAYS)), DAYS)
    return lake


def test_a_table_that_was_never_written_is_named(lake: Lake) -> None:
    assert not lake.exists("raw", "deliveries")
    for use in (lake.version, lake.scan):
        with pytest.raises(MissingTableError, match=r"no table raw/deliveries yet\.\nHint: run `mlway materialize`"):
            use("raw", "deliveries")


def test_exactly_the_given_days_are_replaced(filled: Lake) -> None:
    filled.replace_days("raw", "deliveries", rows((DAYS[0], 10), (DAYS[0], 11), (DAYS[2], 30)), [DAYS[0], DAYS[2]])
    assert content(filled) == [(DAYS[1], 2), (DAYS[0], 10), (DAYS[0], 11), (DAYS[2], 30)]


def test_a_given_day_without_rows_is_emptied(filled: Lake) -> None:
    filled.replace_days("raw", "deliveries", rows((DAYS[0], 10)), DAYS[:2])
    assert content(filled) == [(DAYS[2], 3), (DAYS[0], 10)]
    filled.replace_days("raw", "deliveries", rows(), [DAYS[0]])
    assert content(filled) == [(DAYS[2], 3)]


def test_new_days_are_added(filled: Lake) -> None:
    new = date(2013, 11, 1)
    filled.replace_days("raw", "deliveries", rows((new, 4)), [new])
    assert len(content(filled)) == 4


def test_replacing_days_twice_leaves_the_same_rows(filled: Lake) -> None:
    before = content(filled)
    filled.replace_days("raw", "deliveries", rows((DAYS[1], 2)), [DAYS[1]])
    assert content(filled) == before


def test_a_table_may_begin_without_rows(lake: Lake) -> None:
    lake.replace_days("raw", "deliveries", rows(), DAYS)
    assert lake.scan("raw", "deliveries").collect_schema() == {"event_day": pl.Date, "id": pl.Int64}
    lake.replace_days("raw", "deliveries", rows((DAYS[0], 1)), [DAYS[0]])
    assert content(lake) == [(DAYS[0], 1)]


@pytest.mark.parametrize("stranger", [DAYS[2], None])
@pytest.mark.parametrize("is_new", [True, False])
def test_rows_of_days_that_are_not_replaced_are_refused(lake: Lake, stranger: date | None, is_new: bool) -> None:
    if not is_new:
        lake.replace_days("raw", "deliveries", rows((DAYS[0], 1)), [DAYS[0]])
    with pytest.raises(ValueError, match=r"raw/deliveries: rows of .* while replacing 2013-10-01 to 2013-10-02"):
        lake.replace_days("raw", "deliveries", rows((DAYS[0], 7), (stranger, 8)), DAYS[:2])
    assert lake.exists("raw", "deliveries") is not is_new
    assert is_new or content(lake) == [(DAYS[0], 1)]


def test_every_write_is_one_version_and_old_ones_stay_readable(filled: Lake) -> None:
    first, before = filled.version("raw", "deliveries"), content(filled)
    second = filled.replace_days("raw", "deliveries", rows((DAYS[0], 10)), DAYS[:2])
    assert (first, second) == (0, 1)
    assert content(filled, first) == before


def test_a_read_begun_before_a_write_sees_nothing_of_it(filled: Lake) -> None:
    before = filled.scan("raw", "deliveries")
    filled.replace_days("raw", "deliveries", rows((DAYS[0], 10)), DAYS)
    assert sorted(before.collect()["id"]) == [1, 2, 3]


@pytest.mark.parametrize("change", [{"extra": 1}, {"id": 1.5}, {"id": "a"}])
def test_some_days_cannot_have_other_columns_than_the_rest(filled: Lake, change: dict[str, Any]) -> None:
    changed = rows((DAYS[0], 1)).with_columns(**{name: pl.lit(value) for name, value in change.items()})
    (name,) = change
    with pytest.raises(ChangedColumnsError, match=rf"holds 2 other days, such as {DAYS[1]}.*: {name}\."):
        filled.replace_days("raw", "deliveries", changed, DAYS[:1])
    assert (content(filled), filled.version("raw", "deliveries")) == ([(day, day.day) for day in DAYS], 0)


def test_columns_may_change_when_every_day_is_replaced(filled: Lake) -> None:
    changed = rows(*((day, day.day) for day in DAYS)).with_columns(pl.col("id") + 0.5, extra=1)
    filled.replace_days("raw", "deliveries", changed, DAYS)
    frame = filled.scan("raw", "deliveries").sort("event_day").collect()
    assert (frame["id"].to_list(), frame["extra"].to_list()) == ([day.day + 0.5 for day in DAYS], [1, 1, 1])
    filled.replace_days("raw", "deliveries", changed.head(1), DAYS[:1])


def test_replacing_a_whole_table_may_change_its_columns(lake: Lake) -> None:
    lake.replace("raw", "shops", pl.DataFrame({"id": [1, 2]}))
    version = lake.replace("raw", "shops", pl.DataFrame({"name": ["a"]}))
    assert lake.scan("raw", "shops").collect().to_dict(as_series=False) == {"name": ["a"]}
    assert version == 1


def test_only_the_asked_days_are_scanned(filled: Lake) -> None:
    assert sorted(filled.scan_days("raw", "deliveries", [DAYS[0], DAYS[2]]).collect()["id"]) == [1, 3]


def test_a_missing_secret_is_named_before_anything_is_written(tmp_path: Path) -> None:
    lake = Lake(LakeAddress(uri=str(tmp_path), storage_secrets={"aws_secret_access_key": "NO_SUCH_SECRET"}))
    with pytest.raises(MissingSecretError, match="The secret NO_SUCH_SECRET is not set"):
        lake.replace("raw", "deliveries", rows((DAYS[0], 1)))
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_with_a_write_is_part_of_its_version(lake: Lake) -> None:
    assert lake.commits("raw", "shops") == []
    for number in range(3):
        lake.replace("raw", "shops", pl.DataFrame({"id": [number]}), {"mlway.note": {"number": number, "none": None}})
    lake.replace("raw", "shops", pl.DataFrame({"id": [3]}))
    found = [(commit.version, commit.metadata.get("mlway.note")) for commit in lake.commits("raw", "shops")]
    notes = [(number, {"number": number, "none": None}) for number in (2, 1, 0)]
    assert found == [(3, None), *notes]
    newest = lake.newest_recorded("raw", "shops", "mlway.note")
    assert newest is not None
    assert newest.version == 2
    assert lake.newest_recorded("raw", "shops", "mlway.other") is None


def test_versions_keep_their_numbers_while_another_writes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.replace("raw", "shops", pl.DataFrame({"id": [0]}), {"mlway.note": 0})
    history, interruptions = DeltaTable.history, iter([1])

    def interrupted(self: DeltaTable, limit: int | None = None) -> list[dict[str, object]]:
        for number in interruptions:
            lake.replace("raw", "shops", pl.DataFrame({"id": [number]}), {"mlway.note": number})
        return history(self, limit)

    monkeypatch.setattr(DeltaTable, "history", interrupted)
    commits = lake.commits("raw", "shops")
    assert [(commit.version, commit.metadata["mlway.note"]) for commit in commits] == [(1, 1), (0, 0)]


def test_a_version_that_was_never_written_or_whose_files_are_gone_is_named(filled: Lake) -> None:
    with pytest.raises(MissingVersionError, match=r"no version 7 of raw/deliveries: the newest is 0\.\nHint: "):
        filled.scan("raw", "deliveries", 7)
    filled.require_files("raw", "deliveries", 0)
    for file in DeltaTable(filled.address.table_uri("raw", "deliveries")).file_uris():
        Path(file).unlink()
    with pytest.raises(MissingVersionError, match=r"no version 0 of raw/deliveries: its files were removed"):
        filled.require_files("raw", "deliveries", 0)


def test_old_versions_outlive_the_retention_of_deltas_log(lake: Lake, tmp_path: Path) -> None:
    lake.replace("raw", "shops", pl.DataFrame({"id": [0]}), {"mlway.note": "first"})
    lake.replace("raw", "shops", pl.DataFrame({"id": [1]}))
    DeltaTable(lake.address.table_uri("raw", "shops")).create_checkpoint()
    for file in (tmp_path / "raw" / "shops" / "_delta_log").iterdir():
        os.utime(file, (0, 0))
    for number in range(2, 102):  # Far enough for the checkpoint at which delta-rs cleans its log.
        lake.replace("raw", "shops", pl.DataFrame({"id": [number]}))
    assert lake.scan("raw", "shops", 0).collect()["id"].to_list() == [0]
    assert lake.commits("raw", "shops")[-1].metadata["mlway.note"] == "first"


def day(number: int, **columns: object) -> pl.DataFrame:
    return pl.DataFrame({"event_day": [date(2013, 10, number)], **columns})


def test_appended_rows_carry_their_record_and_may_have_more_columns(lake: Lake) -> None:
    assert lake.append("raw", "answers", day(1, id=[1]), {"mlway.note": "first"}, None) == 0
    assert lake.append("raw", "answers", day(2, id=[2], score=[0.5]), {"mlway.note": "second"}, 0) == 1
    assert lake.append("raw", "answers", day(1, id=[1]).clear(), {"mlway.note": "nothing"}, 1) == 2
    frame = lake.scan("raw", "answers").sort("id").collect()
    assert frame.select("id", "score").rows() == [(1, None), (2, 0.5)]
    assert [commit.metadata["mlway.note"] for commit in lake.commits("raw", "answers")] == [
        "nothing",
        "second",
        "first",
    ]


def test_rows_are_not_appended_behind_a_record_that_was_not_seen(lake: Lake) -> None:
    lake.append("raw", "answers", day(1, id=[1]), {"mlway.note": 0}, None)
    with pytest.raises(ConcurrentWriteError):
        lake.append("raw", "answers", day(1, id=[1]), {"mlway.note": 0}, None)
    lake.append("raw", "answers", day(1, id=[2]), {"mlway.note": 1}, 0)
    with pytest.raises(ConcurrentWriteError, match=r"raw/answers just now(.|\n)*run it again"):
        lake.append("raw", "answers", day(1, id=[2]), {"mlway.note": 1}, 0)
    DeltaTable(lake.address.table_uri("raw", "answers")).optimize.compact()  # adds no rows, and is in nobody's way
    assert lake.append("raw", "answers", day(1, id=[3]), {"mlway.note": 2}, 1) == 3
    assert lake.scan("raw", "answers").collect()["id"].sort().to_list() == [1, 2, 3]


def test_appended_columns_of_another_type_are_refused_and_named(lake: Lake) -> None:
    lake.append("raw", "answers", day(1, id=[1], note=["a"]), {}, None)
    with pytest.raises(ChangedTypesError, match=r"to be added: note\. Nothing was written"):
        lake.append("raw", "answers", day(1, id=[2], note=[5]), {}, 0)
