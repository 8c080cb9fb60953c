"""The decision log as it is written: what was acknowledged is there, to the bit, whatever happens to the writer."""

import os
import signal
import struct
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decision_support import FEATURES, PRODUCT, baseline, decision, lines_of, product, read_ids, read_log, write_log
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.load import PROJECT_ROOT
from serving.decision_log import Decision, DecisionLog, DecisionLogError, new_decision_id
from serving.decision_segments import ChainError, SegmentContent, list_segments

TESTS = Path(__file__).parent.parent


@pytest.fixture
def log(tmp_path: Path) -> DecisionLog:
    return DecisionLog(tmp_path, product(), "r1")


def bits(value: Any) -> Any:
    """Values that are equal only where every bit is."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, list | tuple) else value


def fields(found: Decision) -> dict[str, Any]:
    told = {name: getattr(found, name) for name in Decision.__slots__ if name not in ("vectors", "features")}
    matrix = np.asarray(found.vectors, dtype="<f8").reshape(len(found.requests), -1)
    return bits(told) | {"features": tuple(found.features), "vectors": (matrix.shape, matrix.tobytes())}


any_float = st.floats(width=64)
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=offsets)  # noqa: DTZ001 - zones are drawn
number = st.integers(-(2**63), 2**63 - 1)
score = st.none() | any_float | st.dictionaries(st.sampled_from(["score", "lower", "upper"]), any_float)


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    rows, width = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    request = st.fixed_dictionaries(
        {"carrier": st.none() | text, "flight": st.none() | number, "weight": st.none() | any_float}
        | {"scheduled_departure": moments}
    )

    def each(item: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(item, min_size=rows, max_size=rows)

    return decision(
        rows,
        at=draw(st.integers(-(2**62), 2**62)),
        model=draw(st.sampled_from([{"name": "baseline"}, {"name": PRODUCT, "version": 7}])),
        digest=draw(st.none() | text),
        variant=draw(text),
        caller=draw(text),
        requests=draw(each(request)),
        features=tuple(f"f{place}" for place in range(width)),
        vectors=draw(each(st.lists(any_float, min_size=width, max_size=width))),
        ages=draw(st.dictionaries(text, each(st.none() | st.floats(0, 1e12)), max_size=3)),
        missing=draw(each(st.lists(text, max_size=2))),
        scores=draw(each(score)),
        degraded=draw(st.lists(text, max_size=2)),
        latency_microseconds=draw(st.integers(0, 2**40)),
    )


@given(made=st.lists(decisions(), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_decision_comes_back_to_the_bit(made: list[Decision], tmp_path: Path) -> None:
    folder = tmp_path / new_decision_id()
    weighed = product().population.model_copy(update={"request": {**product().population.request, "weight": "float64"}})
    log = DecisionLog(folder, product().model_copy(update={"population": weighed}), "r1")
    for each in made:
        log.append(each)
    log.close()
    assert [fields(logged.record.decision) for logged in read_log(folder)] == [fields(each) for each in made]


def test_a_decision_is_in_the_file_when_append_returns(log: DecisionLog, tmp_path: Path) -> None:
    for count in range(1, 4):
        log.append(decision(rows=count))
        assert len(read_ids(tmp_path)) == count


def test_ids_are_unique_and_sort_by_time() -> None:
    first = new_decision_id()
    made = {new_decision_id() for _ in range(10_000)}
    assert len(made) == 10_000
    assert {len(each) for each in made} == {32}
    assert all(each[:13] >= first[:13] for each in made)


def test_the_baseline_is_logged_without_features(log: DecisionLog, tmp_path: Path) -> None:
    log.append(baseline())
    log.append(decision())
    first, second = (logged.record.decision for logged in read_log(tmp_path))
    assert (first.model, first.digest, first.features) == ({"name": "baseline"}, None, ())
    assert (second.model["version"], second.features) == (1, FEATURES)


def test_segments_end_at_their_size_and_follow_each_other(tmp_path: Path) -> None:
    made = write_log(tmp_path, 60, segment_bytes=4_000)
    segments = list_segments(tmp_path, PRODUCT)
    assert [segment.sequence for segment in segments] == list(range(1, len(segments) + 1))
    assert len(segments) > 3
    assert read_ids(tmp_path) == [each.id for each in made]
    ends = [list(SegmentContent(segment).lines())[-1] for segment in segments]
    assert all(end.is_footer for end in ends)
    headers = [SegmentContent(segment).header() for segment in segments]
    assert [header["previous"] for header in headers[1:]] == [end.hash.decode() for end in ends[:-1]]


def test_a_replica_that_comes_again_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    killed = DecisionLog(tmp_path, product(), "r1")
    killed.append(decision())
    path = list_segments(tmp_path, PRODUCT)[0].path
    killed._segment.release()
    with path.open("ab") as file:
        file.write(b"0123 torn")
    again = DecisionLog(tmp_path, product(), "r1")
    again.append(decision())
    first, second = list_segments(tmp_path, PRODUCT)
    assert SegmentContent(second).header()["previous"].encode() == list(SegmentContent(first).lines())[-1].hash
    assert len(read_ids(tmp_path)) == 2


def test_two_processes_cannot_write_as_the_same_replica(log: DecisionLog, tmp_path: Path) -> None:
    log.append(decision())
    other = DecisionLog(tmp_path, product(), "r1")
    with pytest.raises(DecisionLogError, match=r"belongs to another process(.|\n)*name of its own"):
        other.append(decision())


def test_what_contradicts_itself_or_cannot_be_written_is_refused_and_leaves_no_trace(
    log: DecisionLog, tmp_path: Path
) -> None:
    log.append(decision())
    for broken in (
        decision(scores=[0.1, 0.2]),
        decision(vectors=[[1.0, 2.0]]),
        decision(requests=[{"flight": 2**80}]),
        decision(requests=[{"flight": object()}]),
    ):
        with pytest.raises(DecisionLogError, match="bug of the endpoint"):
            log.append(broken)
    log.append(decision())
    log.close()
    assert len(read_ids(tmp_path)) == 2


@pytest.mark.parametrize("name", ["", "../r1", "a/b", "x" * 200])
def test_a_replica_whose_name_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DecisionLogError, match="cannot be called"):
        DecisionLog(tmp_path, product(), name)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DecisionLogError, match="Not a directory"):
        DecisionLog(tmp_path / "file", product(), "r1")


def test_a_log_flushed_to_the_disk_reads_the_same(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, product(), "r1", durability="disk")
    log.append(decision())
    log.append(decision())
    log.close()
    assert len(read_ids(tmp_path)) == 2


FULL_DISK = """
import resource, sys
from pathlib import Path
from decision_support import decision, product
from serving.decision_log import DecisionLog, DecisionLogError

log = DecisionLog(Path(sys.argv[1]), product(), "r1", segment_bytes=int(sys.argv[2]))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for number in range(60):
    # A limit on the size of files stands for a disk that is full now and then: it cuts writes off half way as well.
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_333 if number % 20 < 15 else 1_000_000, hard))
    made = decision(seed=number)
    try:
        log.append(made)
    except DecisionLogError as error:
        print("refused", str(error).split(": ")[1].splitlines()[0])
    else:
        print(made.id)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
log.close()
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{PROJECT_ROOT}"}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)


@pytest.mark.parametrize("segment_bytes", [16_000_000, 3_300])
def test_a_full_disk_refuses_and_the_log_goes_on_once_there_is_room(segment_bytes: int, tmp_path: Path) -> None:
    said = run(FULL_DISK, str(tmp_path), str(segment_bytes)).stdout.splitlines()
    acknowledged = [line for line in said if not line.startswith("refused")]
    assert "refused File too large." in said
    assert said.index("refused File too large.") < len(said) - said[::-1].index(acknowledged[-1]) - 1
    assert read_ids(tmp_path) == acknowledged


KILLED = """
import sys
from pathlib import Path
from decision_support import decision, product
from serving.decision_log import DecisionLog

log = DecisionLog(Path(sys.argv[1]), product(), sys.argv[2], segment_bytes=200_000)
number = 0
while True:
    made = decision(rows=1 + number % 40, seed=number % 7)
    log.append(made)
    print(made.id, flush=True)
    number += 1
"""


@pytest.mark.parametrize("replica", ["same", "own"])
def test_every_acknowledged_decision_is_found_after_kill_9(replica: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{PROJECT_ROOT}"}
    acknowledged: list[str] = []
    for turn in range(5):
        name = "r1" if replica == "same" else f"r{turn}"
        command = [sys.executable, "-c", KILLED, str(tmp_path), name]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            read = [writer.stdout.readline().strip() for _ in range(40 + 37 * turn)]
            writer.send_signal(signal.SIGKILL)
            # What is left in the pipe was printed before the end, the last line of it perhaps not whole.
            left = [line for line in writer.stdout.read().split("\n") if len(line) == 32]
        acknowledged += read + left
    found = read_ids(tmp_path)
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))
    # Appended, yet not printed, is at most the one decision in hand of each writer.
    assert len(found) - len(acknowledged) <= 5


def test_a_torn_last_line_is_left_out_and_a_torn_line_before_it_is_an_error(tmp_path: Path) -> None:
    made = write_log(tmp_path, 5)
    path = list_segments(tmp_path, PRODUCT)[0].path
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[:-2]) + lines[-2][:100])
    assert read_ids(tmp_path) == [each.id for each in made[:-1]]
    path.write_bytes(b"".join([*lines[:3], lines[3][:100] + b"\n", *lines[4:]]))
    with pytest.raises(ChainError, match="line 4: altered"):
        read_ids(tmp_path)
