"""A group's table after days of its curated table have changed: what all history gives, from no more than needed."""

import tempfile
from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from window_examples import EVENTS, GROUP, START, table_of

from configs.environments import Lake as LakeAddress
from configs.features import EventFeatures, LatestFeatures
from feature_repo.aggregations import feature_values, values_from
from mlway_assets import feature_tables
from mlway_assets.feature_tables import write_group
from mlway_assets.lake import Lake

LATEST = LatestFeatures.model_validate(
    GROUP.model_dump(include={"name", "description", "owner", "entity", "join_keys", "table", "known_at"})
    | {"kind": "latest", "time_to_live": "6h", "features": {"value_now": {"expression": "value", "type": "int64"}}}
)
NOW = START + timedelta(days=2)
DAYS = [date(2013, 3, number) for number in range(9, 13)]
BY_KIND = pytest.mark.parametrize("group", [GROUP, LATEST], ids=["windowed", "latest"])


@pytest.fixture
def lake() -> Iterator[Lake]:
    with tempfile.TemporaryDirectory() as folder:
        yield Lake(LakeAddress(uri=folder))


def land(lake: Lake, day: date, events: list[tuple[str, int, int | None]]) -> None:
    """A day is where rows are kept; when they became known is another matter."""
    lake.replace_days("curated", "events", table_of(events).with_columns(pl.lit(day).alias("event_day")), [day])


def in_order(values: pl.DataFrame) -> pl.DataFrame:
    return values.sort("event_timestamp", "key")


def written(lake: Lake, group: EventFeatures) -> pl.DataFrame:
    write_group(group, lake, NOW)
    return in_order(lake.scan("features", group.name).collect())


def from_all_history(lake: Lake, group: EventFeatures) -> pl.DataFrame:
    return in_order(feature_values(group, lake.scan("curated", "events")).collect())


@BY_KIND
@settings(max_examples=12, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(DAYS), EVENTS), min_size=2, max_size=5))
def test_days_landed_in_any_order_and_again_give_the_values_of_all_history(
    group: EventFeatures, steps: list[tuple[date, list[tuple[str, int, int | None]]]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(LakeAddress(uri=folder))
        for day, events in steps:
            land(lake, day, events)
            assert written(lake, group).equals(from_all_history(lake, group))


@BY_KIND
@settings(max_examples=25, deadline=None)
@given(events=EVENTS, at=st.integers(0, 60))
def test_values_from_a_moment_on_are_those_of_all_history(
    group: EventFeatures, events: list[tuple[str, int, int | None]], at: int
) -> None:
    table, first = table_of(events).lazy(), START + timedelta(minutes=15 * at)
    late = pl.col("event_timestamp") >= first
    assert values_from(group, table, first).collect().equals(feature_values(group, table).filter(late).collect())


def test_a_day_more_computes_nothing_of_the_days_before(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def listening(group: EventFeatures, table: pl.LazyFrame, first: object) -> pl.LazyFrame:
        asked.append(first)
        return values_from(group, table, first)  # type: ignore[arg-type]

    monkeypatch.setattr(feature_tables, "values_from", listening)
    land(lake, DAYS[0], [("a", 0, 1), ("b", 900_000_000, 2)])
    written(lake, GROUP)
    assert not asked
    land(lake, DAYS[1], [("a", 36_000_000_000, 3)])
    assert written(lake, GROUP).equals(from_all_history(lake, GROUP))
    assert asked == [START + timedelta(hours=10)]


def test_another_declaration_computes_all_history_again(lake: Lake) -> None:
    land(lake, DAYS[0], [("a", 0, 1), ("b", 900_000_000, 2)])
    written(lake, GROUP)
    land(lake, DAYS[1], [("a", 36_000_000_000, 3)])
    changed = GROUP.model_copy(update={"windows": (timedelta(hours=2),)})
    assert written(lake, changed).equals(from_all_history(lake, changed))


def test_without_the_former_version_all_history_is_computed_again(lake: Lake) -> None:
    land(lake, DAYS[0], [("a", 0, 1), ("b", 900_000_000, 2)])
    written(lake, GROUP)
    land(lake, DAYS[0], [("a", 0, 7)])
    table = DeltaTable(lake.address.table_uri("curated", "events"))
    assert table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert written(lake, GROUP).equals(from_all_history(lake, GROUP))


def test_values_that_something_else_has_written_are_not_kept(lake: Lake) -> None:
    land(lake, DAYS[0], [("a", 0, 1), ("b", 900_000_000, 2)])
    right = written(lake, GROUP)
    lake.replace("features", GROUP.name, right.head(0))
    land(lake, DAYS[1], [("a", 36_000_000_000, 3)])
    assert written(lake, GROUP).equals(from_all_history(lake, GROUP))
