"""From the decision log's segments to the lake: each record once, and none that is not proven."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from decision_support import (
    FEATURES,
    PRODUCT,
    REQUEST,
    baseline,
    decision,
    flip_byte,
    lines_of,
    log_environment,
    product,
    rewrite,
    write_log,
)

from configs.load import PROJECT_ROOT, load_project
from mlway_assets.decision_compaction import Compaction, compact_decisions
from mlway_assets.decision_table import table_columns, table_name
from mlway_assets.decision_verification import verify_log
from mlway_assets.lake import ConcurrentWriteError, Lake
from mlway_assets.resources import Platform
from serving.decision_log import DecisionLog
from serving.decision_segments import list_segments

TABLE = table_name(PRODUCT)
LATER = datetime.now(UTC) + timedelta(days=400)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(load_project(PROJECT_ROOT / "configs"), log_environment(tmp_path))


@pytest.fixture
def folder(platform: Platform) -> Path:
    return platform.environment.decisions_folder


def compact(platform: Platform, now: datetime = LATER) -> Compaction:
    return compact_decisions(product(), platform, now)


def ids(platform: Platform) -> list[str]:
    frame = platform.lake.scan("raw", TABLE).filter(pl.col("row") == 0).collect()
    return frame.sort("segment", "line")["decision_id"].to_list()


def test_without_decisions_nothing_is_written(platform: Platform) -> None:
    assert compact(platform) == Compaction()
    assert not platform.lake.exists("raw", TABLE)


def test_each_row_has_what_was_logged_to_the_bit(platform: Platform, folder: Path) -> None:
    log = DecisionLog(folder, product(), "r1")
    first = decision(rows=3, scores=[0.25, {"score": 7.5, "lower": 1.0, "upper": 9.0}, None])
    log.append(first)
    log.append(baseline(requests=[REQUEST]))
    log.close()
    done = compact(platform)
    assert (done.decisions, done.rows, done.version, done.broken) == (2, 4, 0, [])
    frame = platform.lake.scan("raw", TABLE).collect().sort("line", "row")
    logged = frame.head(3)
    matrix = logged.select(f"feature_{name}" for name in FEATURES).to_numpy()
    assert matrix.tobytes() == np.ascontiguousarray(first.vectors).tobytes()
    assert logged["score"].to_list() == [0.25, 7.5, None]
    assert logged["answer"].to_list() == [None, '{"score":7.5,"lower":1.0,"upper":9.0}', "null"]
    assert logged["age_route"].to_list() == first.ages["route"]
    assert logged["missing"].to_list() == first.missing
    assert logged["request_flight"].to_list() == [0, 1, 2]
    assert logged["request_scheduled_departure"].to_list() == [REQUEST["scheduled_departure"]] * 3
    assert logged["event_day"].unique().to_list() == [datetime(2013, 10, 1, tzinfo=UTC).date()]
    assert logged["model_version"].to_list() == [1, 1, 1]
    assert frame["model_version"][3] is None
    assert frame["feature_delay"][3] is None
    assert set(table_columns(platform.project, product())) <= set(frame.columns)


def test_compacting_again_adds_nothing_and_then_only_what_is_new(platform: Platform, folder: Path) -> None:
    log = DecisionLog(folder, product(), "r1", segment_bytes=5_000)
    made = []
    for _ in range(3):
        for _ in range(7):
            made.append(decision())
            log.append(made[-1])
        assert compact(platform).decisions == 7  # of the segment that is still written, too
        version = platform.lake.version("raw", TABLE)
        assert compact(platform).decisions == 0
        assert platform.lake.version("raw", TABLE) == version
    assert ids(platform) == [each.id for each in made]


def test_a_long_log_is_taken_in_by_several_commits(
    platform: Platform, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlway_assets.decision_compaction._BATCH_BYTES", 9_000)
    monkeypatch.setattr("mlway_assets.decision_compaction._CHUNK_DECISIONS", 4)
    made = write_log(folder, 60, segment_bytes=5_000)
    done = compact(platform)
    assert (done.decisions, done.rows) == (60, 60)
    assert done.version is not None
    assert done.version > 1
    assert ids(platform) == [each.id for each in made]
    assert verify_log(PRODUCT, platform).problems == []
    assert compact(platform).decisions == 0


def test_a_torn_last_line_is_taken_once_it_is_whole(platform: Platform, folder: Path) -> None:
    made = write_log(folder, 4)
    path = list_segments(folder, PRODUCT)[0].path
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[:-2]) + lines[-2][:50])
    assert compact(platform).decisions == 3
    rewrite(path, lines)
    assert compact(platform).decisions == 1
    assert ids(platform) == [each.id for each in made]


def test_what_follows_a_broken_record_is_left_out_and_other_replicas_go_on(platform: Platform, folder: Path) -> None:
    made = write_log(folder, 5)
    others = write_log(folder, 3, replica="r2")
    altered = flip_byte(list_segments(folder, PRODUCT)[0].path, line=5)
    done = compact(platform)
    assert [(error.line, error.decision) for error in done.broken] == [(5, altered)]
    assert set(ids(platform)) == {each.id for each in [*made[:2], *others]}


def test_a_segment_cut_off_or_removed_after_it_was_taken_is_found(platform: Platform, folder: Path) -> None:
    write_log(folder, 5)
    write_log(folder, 5, replica="r2")
    compact(platform)
    first, second = list_segments(folder, PRODUCT)
    rewrite(first.path, lines_of(first.path)[:-3])
    second.path.unlink()
    done = compact(platform)
    assert {(error.segment, error.line, error.problem) for error in done.broken} == {
        ("r1-000001", 6, "missing"),
        ("r2-000001", 1, "missing"),
    }


def test_two_compactions_at_once_add_nothing_twice(platform: Platform, folder: Path) -> None:
    log = DecisionLog(folder, product(), "r1")
    log.append(decision())
    compact(platform)
    log.append(decision())
    appended = Lake.append

    def meanwhile(self: Lake, *arguments: Any) -> int:
        appended(self, *arguments)
        return appended(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lake, "append", meanwhile)
        with pytest.raises(ConcurrentWriteError, match="run it again"):
            compact(platform)
    assert len(ids(platform)) == 2
    assert compact(platform).decisions == 0


def test_a_table_without_a_record_is_not_added_to(platform: Platform, folder: Path) -> None:
    write_log(folder, 1)
    platform.lake.replace("raw", TABLE, pl.DataFrame({"decision_id": ["x"]}))
    with pytest.raises(Exception, match="says which decisions it holds"):
        compact(platform)


def test_without_retention_segments_stay(platform: Platform, folder: Path) -> None:
    write_log(folder, 30, segment_bytes=5_000)
    segments = list_segments(folder, PRODUCT)
    compact(platform)
    assert list_segments(folder, PRODUCT) == segments


def test_retention_deletes_old_whole_segments_and_the_chain_goes_on(tmp_path: Path) -> None:
    platform = Platform(load_project(PROJECT_ROOT / "configs"), log_environment(tmp_path, retention_days=30))
    folder = platform.environment.decisions_folder
    made = write_log(folder, 30, segment_bytes=5_000)
    segments = [segment.name for segment in list_segments(folder, PRODUCT)]
    assert compact(platform, datetime.now(UTC)).deleted == []
    assert compact(platform).deleted == segments
    assert compact(platform).deleted == []
    assert verify_log(PRODUCT, platform).problems == []
    more = write_log(folder, 3)  # the same replica comes again
    assert list_segments(folder, PRODUCT)[0].sequence == len(segments) + 1
    assert verify_log(PRODUCT, platform).problems == []
    assert compact(platform, datetime.now(UTC)).decisions == 3
    assert ids(platform) == [each.id for each in [*made, *more]]


def test_retention_leaves_a_segment_that_is_still_written(tmp_path: Path) -> None:
    platform = Platform(load_project(PROJECT_ROOT / "configs"), log_environment(tmp_path, retention_days=0))
    log = DecisionLog(platform.environment.decisions_folder, product(), "r1")
    log.append(decision())
    assert compact(platform).deleted == []
    log.close()
    assert compact(platform).deleted == ["r1-000001"]


def test_a_deletion_that_was_cut_off_is_completed(tmp_path: Path) -> None:
    platform = Platform(load_project(PROJECT_ROOT / "configs"), log_environment(tmp_path, retention_days=30))
    folder = platform.environment.decisions_folder
    write_log(folder, 10, segment_bytes=5_000)
    segments = [segment.name for segment in list_segments(folder, PRODUCT)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compact(platform)
    assert compact(platform).deleted == segments
    assert len(ids(platform)) == 10


KILLED = """
import os, signal, sys
from pathlib import Path
import deltalake
import mlway_assets.lake as lake
from datetime import UTC, datetime
from decision_support import log_environment, product
from configs.load import load_project
from mlway_assets.resources import Platform

written = lake.write_deltalake
def killed(*arguments, **named):
    if sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    written(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

lake.write_deltalake = killed
from mlway_assets.decision_compaction import compact_decisions
compact_decisions(product(), Platform(load_project(), log_environment(Path(sys.argv[1]))), datetime.now(UTC))
"""


@pytest.mark.parametrize("moment", ["before", "behind"])
def test_a_compaction_killed_around_its_commit_loses_and_repeats_nothing(moment: str, tmp_path: Path) -> None:
    platform = Platform(load_project(PROJECT_ROOT / "configs"), log_environment(tmp_path))
    made = write_log(platform.environment.decisions_folder, 20, segment_bytes=5_000)
    paths = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent.parent}:{PROJECT_ROOT}"}
    command = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    done = subprocess.run(command, env=paths, check=False, timeout=60, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert compact(platform).decisions == (20 if moment == "before" else 0)
    assert ids(platform) == [each.id for each in made]
