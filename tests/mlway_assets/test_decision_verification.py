"""`mlway verify-log`: what was altered, removed or moved is found and named."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import pytest
import yaml
from decision_support import PRODUCT, decision, flip_byte, lines_of, product, rewrite, write_log
from typer.testing import CliRunner

from configs.load import PROJECT_ROOT, load_environment, load_project
from mlway_assets.cli import app
from mlway_assets.decision_compaction import compact_decisions
from mlway_assets.decision_verification import VerifiedLog, verify_log
from mlway_assets.resources import Platform
from serving.decision_log import DecisionLog, new_decision_id
from serving.decision_segments import list_segments

runner = CliRunner()


@pytest.fixture
def environment_file(tmp_path: Path) -> Path:
    content = yaml.safe_load((PROJECT_ROOT / "configs" / "environments" / "local.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "here.yaml"
    path.write_text(yaml.safe_dump(content | {"name": "here", "state": str(tmp_path / "state")}), encoding="utf-8")
    return path


@pytest.fixture
def platform(environment_file: Path) -> Platform:
    return Platform(load_project(PROJECT_ROOT / "configs"), load_environment(str(environment_file)))


@pytest.fixture
def folder(platform: Platform) -> Path:
    """Three segments of a replica, the first with lines: header, context, decisions 3 to 11, footer."""
    write_log(platform.environment.decisions_folder, 30, segment_bytes=5_000)
    return platform.environment.decisions_folder


def segment(folder: Path, number: int = 0) -> Path:
    return list_segments(folder, PRODUCT)[number].path


def decision_at(path: Path, line: int) -> str:
    return lines_of(path)[line - 1].partition(b'{"decision":"')[2][:32].decode()


def first(log: VerifiedLog) -> tuple[str, int, str, str | None]:
    found = log.problems[0]
    return found.segment, found.line, found.problem, found.decision


def take_in(platform: Platform) -> None:
    compact_decisions(product(), platform, datetime.now(UTC))


def test_an_untouched_log_is_intact_and_counted(platform: Platform, folder: Path) -> None:
    log = verify_log(PRODUCT, platform)
    assert (log.decisions, log.segments, log.problems) == (30, len(list_segments(folder, PRODUCT)), [])
    take_in(platform)
    assert verify_log(PRODUCT, platform).problems == []


@pytest.mark.parametrize("place", [0, 63, 64, 65, 90, 300, -2], ids=lambda place: f"byte {place}")
@pytest.mark.parametrize("line", [1, 2, 3, 7, -1], ids=lambda line: f"line {line}")
def test_an_altered_byte_is_found_in_whichever_line_and_place(
    line: int, place: int, platform: Platform, folder: Path
) -> None:
    path = segment(folder)
    lines = lines_of(path)
    number = line if line > 0 else len(lines)
    if place >= len(lines[number - 1]):
        place = 80
    flip_byte(path, number, place)
    name, found, problem, _ = first(verify_log(PRODUCT, platform))
    assert (name, found, problem) == ("r1-000001", number, "altered")


def test_an_altered_decision_is_named(platform: Platform, folder: Path) -> None:
    altered = flip_byte(segment(folder, 1), line=5)
    assert first(verify_log(PRODUCT, platform)) == ("r1-000002", 5, "altered", altered)


Change = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("change", "line", "problem"),
    [
        (lambda lines: [*lines[:4], *lines[5:]], 5, "missing"),
        (lambda lines: [*lines[:4], *lines[7:]], 5, "missing"),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], 5, "reordered"),
        (lambda lines: [*lines[:3], lines[6], *lines[3:6], *lines[7:]], 4, "reordered"),
        (lambda lines: [*lines[:5], lines[4], *lines[5:]], 6, "additional"),
        (lambda lines: [*lines, lines[4]], -1, "additional"),
        (lambda lines: lines[1:], 1, "altered"),
        (lambda lines: lines[:-1], -1, "missing"),
        (lambda lines: lines[:-4], -4, "missing"),
    ],
    ids=["removed", "three removed", "swapped", "moved", "repeated", "behind the end", "headless", "no end", "cut off"],
)
def test_lines_that_are_removed_moved_or_added_are_found(
    change: Change, line: int, problem: str, platform: Platform, folder: Path
) -> None:
    path = segment(folder)
    lines = lines_of(path)
    rewrite(path, change(lines))
    number = line if line > 0 else len(lines) + line + (2 if line == -1 and problem == "additional" else 1)
    assert first(verify_log(PRODUCT, platform))[:3] == ("r1-000001", number, problem)


@pytest.mark.parametrize("number", [0, 1])
def test_a_removed_segment_is_found_by_those_behind_it(number: int, platform: Platform, folder: Path) -> None:
    segment(folder, number).unlink()
    assert first(verify_log(PRODUCT, platform))[:3] == (f"r1-{number + 1:06d}", 1, "missing")


def test_swapped_segments_are_found(platform: Platform, folder: Path) -> None:
    one, two = segment(folder, 0), segment(folder, 1)
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    assert first(verify_log(PRODUCT, platform))[0] == "r1-000001"


def test_the_last_segment_cut_off_or_removed_after_it_was_taken_in_is_found(platform: Platform, folder: Path) -> None:
    take_in(platform)
    path = segment(folder, -1)
    lost = decision_at(path, 4)
    rewrite(path, lines_of(path)[:3])
    assert first(verify_log(PRODUCT, platform)) == (path.stem, 4, "missing", lost)
    lost = decision_at(path, 3)
    path.unlink()
    assert first(verify_log(PRODUCT, platform)) == (path.stem, 1, "missing", lost)


def test_a_segment_written_anew_with_right_hashes_is_found_by_what_the_lake_holds(
    platform: Platform, folder: Path
) -> None:
    take_in(platform)
    path = segment(folder, -1)
    lines = lines_of(path)
    forged = decision_at(path, 4)
    head = lines[2][:64]
    rewritten = lines[:3]
    for line in lines[3:]:
        payload = line[65:-1].replace(b'"caller":"key-1"', b'"caller":"key-2"')
        head = hashlib.sha256(head + payload).hexdigest().encode()
        rewritten.append(head + b" " + payload + b"\n")
    rewrite(path, rewritten)
    assert first(verify_log(PRODUCT, platform)) == (path.stem, 4, "written anew", forged)


def test_the_command_names_the_record_and_ends_with_status_1(folder: Path, environment_file: Path) -> None:
    intact = runner.invoke(app, ["verify-log", "-e", str(environment_file)])
    assert (intact.exit_code, "30 decisions" in intact.stdout, "intact" in intact.stdout) == (0, True, True)
    altered = flip_byte(segment(folder, 1), line=5)
    shown = runner.invoke(app, ["verify-log", PRODUCT, "-e", str(environment_file)])
    assert shown.exit_code == 1
    assert f"r1-000002, line 5 (decision {altered}): altered" in shown.stdout
    told = runner.invoke(app, ["verify-log", "--json", "-e", str(environment_file)])
    assert told.exit_code == 1
    problem = json.loads(told.stdout)[PRODUCT]["problems"][0]
    assert (problem["segment"], problem["line"], problem["decision"]) == ("r1-000002", 5, altered)


def test_an_unknown_product_is_refused_with_those_there_are(environment_file: Path) -> None:
    done = runner.invoke(app, ["verify-log", "flight_dealy", "-e", str(environment_file)])
    assert done.exit_code == 1
    assert "flight_delay" in done.stderr


def test_one_byte_in_100_000_decisions_is_named_within_seconds(platform: Platform) -> None:
    folder = platform.environment.decisions_folder
    log = DecisionLog(folder, product(), "r1")
    made = decision()
    for _ in range(100_000):
        log.append(replace(made, id=new_decision_id()))
    log.close()
    path = segment(folder, 2)
    altered = flip_byte(path, line=len(lines_of(path)) // 2)
    started = perf_counter()
    found = verify_log(PRODUCT, platform)
    seconds = perf_counter() - started
    assert [problem.decision for problem in found.problems] == [altered]
    assert seconds < 10
