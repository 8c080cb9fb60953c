"""The request log: one line for one request, whatever the request held."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.clock import build_clock
from configs.environments import ReplayClock
from configs.load import load_environment
from configs.telemetry import RequestLogLimits
from serving import logs
from serving.background import Periodic
from serving.logs import RequestLog, build_request_log

HOSTILE = 'x"}\n{"status": 200, "caller": "admin"}\r\u2028\u2029\x85\x0b\x0c\x1b[2J\x00\ud800'


CLOCK = build_clock(ReplayClock(kind="replay", at=datetime(2013, 10, 1, 12, tzinfo=UTC)))


def open_log(folder: Path, **limits: Any) -> RequestLog:
    return RequestLog(folder / "logs" / "requests.jsonl", "flights", RequestLogLimits(**limits), CLOCK)


def lines_of(folder: Path, name: str = "requests.jsonl") -> list[dict[str, Any]]:
    text = (folder / "logs" / name).read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_says_who_asked_what_was_answered_and_how_long_it_took(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.request(
        status=200, seconds=0.00214, caller="booking", decision_id="d1", rows=2, model_version=7, degraded=["redis"]
    )
    log.request(status=429, seconds=0.0001, caller=None, problem="Too Many Requests", trace_id="ab")
    log.write()
    first, second = lines_of(tmp_path)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "product": "flights", "status": 200, "milliseconds": 2.14, "caller": "booking", "decision_id": "d1", "rows": 2,
        "model_version": 7, "degraded": ["redis"],
    }  # fmt: skip
    assert second.pop("time") > "2020"
    assert second == {
        "at": "2013-10-01T12:00:00+00:00", "product": "flights", "status": 429, "milliseconds": 0.1,
        "problem": "Too Many Requests", "trace_id": "ab",
    }  # fmt: skip


def test_no_value_can_begin_a_line_or_reach_the_terminal(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.request(status=403, seconds=0.1, caller=HOSTILE, problem=HOSTILE, decision_id=HOSTILE)
    log.write()
    content = (tmp_path / "logs" / "requests.jsonl").read_bytes()
    assert content.count(b"\n") == 1
    assert all(byte == ord("\n") or 0x20 <= byte < 0x7F for byte in content)
    (line,) = lines_of(tmp_path)
    assert (line["status"], line["caller"]) == (403, HOSTILE)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec=None, exclude_categories=()), max_size=40))
def test_any_text_is_one_line_and_reads_back(text: str, tmp_path: Path) -> None:
    (tmp_path / "logs" / "requests.jsonl").unlink(missing_ok=True)
    log = open_log(tmp_path)
    log.request(status=422, seconds=0.1, caller=text)
    log.write()
    (line,) = lines_of(tmp_path)
    assert line["caller"] == text


def test_long_texts_are_cut(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.request(status=413, seconds=0.1, caller="k" * 10_000_000)
    log.write()
    assert len(lines_of(tmp_path)[0]["caller"]) == logs.LONGEST_TEXT + 3


def test_of_answers_a_share_gets_a_line_and_of_refusals_each(tmp_path: Path) -> None:
    log = open_log(tmp_path, answered_share=0)
    log.request(status=200, seconds=0.1, caller="a")
    log.request(status=503, seconds=0.1, caller="a")
    log.write()
    assert [line["status"] for line in lines_of(tmp_path)] == [503]


def test_lines_beyond_what_may_wait_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_PENDING", 3)
    log = open_log(tmp_path)
    for _ in range(10):
        log.request(status=200, seconds=0.1, caller="a")
    log.write()
    *written, last = lines_of(tmp_path)
    assert len(written) == 3
    assert last["dropped_lines"] == 7


def test_a_file_that_cannot_be_written_is_an_error_and_its_lines_are_counted(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    (tmp_path / "logs" / "requests.jsonl").mkdir(parents=True)
    for _ in range(2):
        log.request(status=200, seconds=0.1, caller="a")
    with pytest.raises(IsADirectoryError):
        log.write()
    (tmp_path / "logs" / "requests.jsonl").rmdir()
    log.write()
    assert [line["dropped_lines"] for line in lines_of(tmp_path)] == [2]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, written = open_log(tmp_path), logs.os.write
    log.request(status=200, seconds=0.1, caller="before")
    log.write()

    def disk_takes_ten_bytes(descriptor: int, content: Any) -> int:
        if len(content) < 20:
            raise OSError(28, "No space left on device")
        return written(descriptor, content[:10])

    monkeypatch.setattr(logs.os, "write", disk_takes_ten_bytes)
    log.request(status=200, seconds=0.1, caller="lost")
    with pytest.raises(OSError, match="No space left"):
        log.write()
    monkeypatch.undo()
    log.request(status=200, seconds=0.1, caller="after")
    log.write()
    assert [line.get("caller") for line in lines_of(tmp_path)] == ["before", "after", None]


def test_the_file_changes_at_its_limit_and_one_former_is_kept(tmp_path: Path) -> None:
    log = open_log(tmp_path, megabytes=0.001)
    for number in range(60):
        log.request(status=200, seconds=0.1, caller=f"caller {number}")
        log.write()
    former, current = lines_of(tmp_path, "requests.jsonl.1"), lines_of(tmp_path)
    numbers = [int(line["caller"].split()[1]) for line in (*former, *current)]
    assert numbers == list(range(numbers[0], 60))
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["requests.jsonl", "requests.jsonl.1"]


REPLICA = """
import sys
from pathlib import Path
from configs.clock import build_clock
from configs.environments import SystemClock
from configs.telemetry import RequestLogLimits
from serving.logs import RequestLog
clock = build_clock(SystemClock(kind="system"))
log = RequestLog(Path(sys.argv[1]), "flights", RequestLogLimits(megabytes=0.05), clock)
for number in range(200):
    log.request(status=200, seconds=0.1, caller=sys.argv[2], rows=number)
    log.write()
"""


def test_replicas_that_share_a_file_write_whole_lines_and_lose_none_when_it_changes(tmp_path: Path) -> None:
    file = str(tmp_path / "logs" / "requests.jsonl")
    replicas = [subprocess.Popen([sys.executable, "-c", REPLICA, file, name]) for name in "abc"]
    assert [replica.wait() for replica in replicas] == [0, 0, 0]
    # Six hundred lines are more than one file takes, and fewer than two.
    kept = [*lines_of(tmp_path, "requests.jsonl.1"), *lines_of(tmp_path)]
    for name in "abc":
        assert [line["rows"] for line in kept if line["caller"] == name] == list(range(200))


def test_the_environment_says_where_and_a_thread_writes(tmp_path: Path) -> None:
    environment = load_environment("local").model_copy(update={"state": tmp_path})
    log = build_request_log(environment, "flights")
    writing = Periodic("log", log.write, seconds=60)
    log.request(status=200, seconds=0.1, caller="a")
    writing.stop()
    assert [line["caller"] for line in lines_of(tmp_path, "requests_flights.jsonl")] == ["a"]


def test_work_that_fails_once_in_its_thread_is_done_again() -> None:
    calls, is_over = iter(range(1_000_000)), threading.Event()

    def fails_once() -> None:
        call = next(calls)
        if call == 1:
            raise OSError("the disk is gone")
        if call > 1:
            is_over.set()

    working = Periodic("writer", fails_once, seconds=0.001)
    assert is_over.wait(20)
    working.stop()
