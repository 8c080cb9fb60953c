"""Values from micro-batches equal values over all history, to the last bit, in any batching, late and repeated rows."""

import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_flights import flights_of_2013
from window_examples import EVENTS, GROUP, START, table_of

from configs.features import EventFeatures, LatestFeatures, WindowedFeatures
from configs.load import load_project
from feature_repo.aggregations import feature_values
from feature_repo.incremental import Changes, State, StateError, advance, merged

LATEST = LatestFeatures.model_validate(
    GROUP.model_dump(include={"name", "description", "owner", "entity", "join_keys", "table", "known_at"})
    | {"kind": "latest", "time_to_live": "6h", "features": {"value_now": {"expression": "value", "type": "int64"}}}
)
Batches = list[tuple[pl.DataFrame, Any]]


def by_batches(group: EventFeatures, batches: Batches) -> tuple[pl.DataFrame, State]:
    state, changes = State(group), []
    for rows, until in batches:
        state, change = advance(state, rows, until)
        assert change.too_late.is_empty()
        changes.append(change)
    return merged(changes), state


def in_batches(table: pl.DataFrame, dice: random.Random, group: EventFeatures, end: Any) -> Batches:
    """The rows in batches of random size, some of them late but within what is allowed."""
    lateness = group.allowed_lateness
    delays = [timedelta(seconds=dice.randrange(int(lateness.total_seconds()))) for _ in range(len(table))]
    late = [delay if dice.random() < 0.2 else timedelta(0) for delay in delays]
    arrival = [at + delay for at, delay in zip(table["known_at"], late, strict=True)]
    arrived = table.with_columns(pl.Series("arrival", arrival, dtype=pl.Datetime("us", "UTC"))).sort("arrival")
    batches, start = [], 0
    while start < len(arrived):
        size = dice.randint(1, 6)
        batch = arrived[start : start + size]
        batches.append((batch.drop("arrival"), batch["arrival"].max()))
        start += size
    return [*batches, (table.head(0), end)]


@pytest.mark.parametrize("group", [GROUP, LATEST], ids=["windowed", "latest"])
@settings(max_examples=15, deadline=None)
@given(events=EVENTS, seed=st.integers(0, 2**32))
def test_any_batching_gives_the_values_of_all_history(
    group: EventFeatures, events: list[tuple[str, int, int | None]], seed: int
) -> None:
    table, end = table_of(events), START + timedelta(days=3)
    values, state = by_batches(group, in_batches(table, random.Random(seed), group, end))
    assert values.equals(feature_values(group, table.lazy()).collect())
    assert state.events is not None
    assert state.events.is_empty()


@settings(max_examples=15, deadline=None)
@given(events=EVENTS, seed=st.integers(0, 2**32))
def test_events_told_twice_count_once(events: list[tuple[str, int, int | None]], seed: int) -> None:
    group = GROUP.model_copy(update={"event_key": ("number",)})
    table = table_of(events).with_row_index("number")
    dice = random.Random(seed)
    repeated = pl.concat([table, table.sample(fraction=0.3, seed=seed % 1000)])
    values, _ = by_batches(group, in_batches(repeated, dice, group, START + timedelta(days=3)))
    assert values.equals(feature_values(group, table.lazy()).collect())


COUNT = WindowedFeatures.model_validate(
    GROUP.model_dump(exclude={"aggregations"}) | {"aggregations": {"count": {"function": "count"}}}
)


@pytest.mark.parametrize("group", [GROUP, COUNT, LATEST], ids=["windowed", "count", "latest"])
@settings(max_examples=25, deadline=None)
@given(events=EVENTS, seed=st.integers(0, 2**32))
def test_versions_of_an_event_give_the_values_of_all_history_in_any_order(
    group: EventFeatures, events: list[tuple[str, int, int | None]], seed: int
) -> None:
    keyed, end = group.model_copy(update={"event_key": ("value",)}), START + timedelta(days=3)
    table = table_of(events)
    values, _ = by_batches(keyed, in_batches(table, random.Random(seed), keyed, end))
    assert values.equals(feature_values(keyed, table.lazy()).collect())


@pytest.mark.parametrize("group", [COUNT, LATEST], ids=["windowed", "latest"])
def test_of_two_versions_of_an_event_the_first_known_counts_even_when_it_arrives_last(group: EventFeatures) -> None:
    keyed = group.model_copy(update={"event_key": ("value",)})
    later, earlier = table_of([("a", 60_000_000, 7)]), table_of([("a", 0, 7)])
    end = START + timedelta(minutes=5)
    state, first = advance(State(keyed), later, end)
    _, second = advance(state, earlier, end)
    assert second.gone.rows() == [("a", START + timedelta(minutes=1))]
    expected = feature_values(keyed, pl.concat([later, earlier]).lazy()).collect()
    assert merged([first, second]).equals(expected.filter(pl.col("event_timestamp") <= end))


@pytest.mark.parametrize("group", [COUNT, LATEST], ids=["windowed", "latest"])
def test_an_event_that_is_told_again_long_after_it_left_the_state_counts_once(
    group: EventFeatures, tmp_path: Path
) -> None:
    keyed = group.model_copy(update={"event_key": ("value",)})
    state, changes = State(keyed), []
    batches = [table_of([("a", 0, 7)]), table_of([]), table_of([("a", 86_400_000_000, 7), ("a", 90_000_000_000, 8)])]
    for day, rows in enumerate(batches):
        state, change = advance(state, rows, START + timedelta(days=day))
        changes.append(change)
        state.save(tmp_path / "state")
        state = State.load(keyed, tmp_path / "state")
    assert state.seen is not None
    assert state.seen.rows() == [(7,), (8,)]
    expected = feature_values(keyed, pl.concat(batches).lazy()).collect()
    assert merged(changes).equals(expected.filter(pl.col("event_timestamp") <= START + timedelta(days=2)))


def test_events_without_an_event_key_are_events_of_their_own() -> None:
    group = COUNT.model_copy(update={"event_key": ("value",)})
    batches = [table_of([("a", 0, None), ("a", 0, None)]), table_of([("a", 0, None)]), table_of([("a", 1, None)])]
    values, _ = by_batches(group, [(rows, START + timedelta(minutes=1)) for rows in batches])
    assert values["count_1h"].to_list() == [3, 4]
    assert values.equals(feature_values(group, pl.concat(batches).lazy()).collect().head(2))


def test_a_state_kept_for_less_lateness_is_refused(tmp_path: Path) -> None:
    state, _ = advance(State(GROUP), table_of([("a", 0, 1)]), START)
    state.save(tmp_path / "state")
    patient = GROUP.model_copy(update={"allowed_lateness": timedelta(hours=2)})
    with pytest.raises(StateError, match="allowed_lateness of 3600 s"):
        State.load(patient, tmp_path / "state")
    assert State.load(GROUP.model_copy(update={"allowed_lateness": timedelta(0)}), tmp_path / "state").until == START


def test_a_row_that_is_later_than_allowed_comes_back_and_changes_nothing() -> None:
    state, _ = advance(State(GROUP), table_of([("a", 0, 1)]), START + timedelta(hours=2))
    late = table_of([("a", 3_600_000_000, 5)])
    after, change = advance(state, late, START + timedelta(hours=2))
    assert change.too_late["event_timestamp"].to_list() == [START + timedelta(hours=1)]
    assert change.values.is_empty()
    assert after.events is not None
    assert after.events.equals(state.events)


def test_a_row_whose_moment_has_not_come_waits() -> None:
    state, change = advance(State(GROUP), table_of([("a", 3_600_000_000, 5)]), START)
    assert change.values.is_empty()
    _, change = advance(state, table_of([]), START + timedelta(hours=1))
    assert change.values["sum_1h"].to_list() == [5]


def test_time_does_not_run_backwards() -> None:
    state, _ = advance(State(GROUP), table_of([]), START)
    with pytest.raises(ValueError, match="lies before"):
        advance(state, table_of([]), START - timedelta(seconds=1))


CRASH = """
import sys
import time
from pathlib import Path
import polars as pl
from datetime import timedelta
from window_examples import GROUP, START
from feature_repo.incremental import State, advance
table, path, out = pl.read_parquet(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
state = State.load(GROUP, path) if path.exists() else State(GROUP)
for batch in range(state.position.get("next", 0), 60):
    rows = table[batch * 5 : batch * 5 + 5]
    # Values first, then the state: what a crash repeats is written again with the same result.
    state, change = advance(state, rows, START + timedelta(minutes=4 * batch), {"next": batch + 1})
    change.values.write_parquet(out / f"{batch:03}.parquet")
    state.save(path)
print("done", flush=True)
"""


def test_a_run_that_is_killed_goes_on_from_its_state_to_the_same_values(tmp_path: Path) -> None:
    dice = random.Random(3)
    events = [
        (dice.choice("abc"), minute * 60_000_000, dice.randint(-3, 5)) for minute in range(0, 240, 4) for _ in range(5)
    ]
    table = table_of(events)
    table.write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "out").mkdir()
    command = [
        sys.executable,
        "-c",
        CRASH,
        str(tmp_path / "rows.parquet"),
        str(tmp_path / "state"),
        str(tmp_path / "out"),
    ]
    environment = {"PYTHONPATH": f"{Path(__file__).parents[1]}:{Path(__file__).parents[2]}", "PATH": ""}
    for files in (5, 20, 40):
        process = subprocess.Popen(command, env=environment)
        while len(list((tmp_path / "out").iterdir())) < files:
            assert process.poll() is None
            time.sleep(0.001)  # a look is for nothing before the next file
        process.kill()
        process.wait()
    subprocess.run(command, env=environment, check=True, timeout=120)
    parts = [pl.read_parquet(path) for path in sorted((tmp_path / "out").iterdir())]
    nothing = table_of([]).select("key", event_timestamp="known_at")
    end = START + timedelta(minutes=236)
    expected = feature_values(GROUP, table.lazy()).collect().filter(pl.col("event_timestamp") <= end)
    assert merged([Changes(part, nothing, table_of([])) for part in parts]).equals(expected)


def test_a_state_of_another_definition_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    state, _ = advance(State(GROUP), table_of([("a", 0, 1)]), START, {"offset": 7})
    state.save(tmp_path / "state")
    assert State.load(GROUP, tmp_path / "state").position == {"offset": 7}
    other = GROUP.model_copy(update={"windows": (timedelta(hours=2),)})
    with pytest.raises(StateError, match="another definition"):
        State.load(other, tmp_path / "state")
    (tmp_path / "state").write_bytes(b"PAR1")
    with pytest.raises(StateError, match="cannot be read"):
        State.load(GROUP, tmp_path / "state")


def all_functions(group: EventFeatures) -> EventFeatures:
    """The bundled group with a number for each flight as event key, and every function over its delays."""
    delays = {"of": "arrival_delay_minutes"}
    functions = ("sum", "mean", "standard_deviation", "minimum", "maximum", "first", "last", "distinct_count")
    more = {f"delay_{function}": {"function": function} | delays for function in functions}
    more["delay_median"] = {"function": "quantile", "quantile": 0.5} | delays
    more["late"] = {"function": "count", "where": "arrival_delay_minutes >= 15"}
    declared = group.model_dump()
    declared["aggregations"] |= more
    return WindowedFeatures.model_validate(declared | {"event_key": ["number"], "allowed_lateness": "2h"})


def test_all_flights_of_2013_in_batches_with_late_and_repeated_ones_equal_the_batch() -> None:
    group = all_functions(load_project().features["aircraft_legs"])  # type: ignore[arg-type]
    table, dice = flights_of_2013().drop_nulls(group.known_at).with_row_index("number"), random.Random(2013)
    repeated = table.sample(fraction=0.01, seed=1)
    late = pl.int_range(pl.len()).is_in(dice.sample(range(len(table)), len(table) // 100))
    delay = pl.when(late).then(pl.duration(seconds=pl.col("number").hash(5) % 7_199)).otherwise(pl.duration(seconds=0))
    arrivals = pl.concat(
        [
            table.with_columns(arrival=pl.col(group.known_at) + delay),
            repeated.with_columns(arrival=pl.col(group.known_at) + pl.duration(minutes=30)),
        ]
    ).sort("arrival", "number")
    state, changes, start = State(group), [], 0
    while start < len(arrivals):
        batch = arrivals[start : start + dice.choice([50, 400, 3_000, 10_000])]
        start += len(batch)
        state, change = advance(state, batch.drop("arrival"), batch["arrival"].max())  # type: ignore[arg-type]
        assert change.too_late.is_empty()
        assert state.events is not None
        assert len(state.events) < 20_000
        changes.append(change)
    end = arrivals["arrival"].max() + timedelta(days=2)  # type: ignore[operator]
    _, change = advance(state, table.head(0), end)
    assert merged([*changes, change]).equals(feature_values(group, table.lazy()).collect())
