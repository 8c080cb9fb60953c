"""The checks that prove parity and the absence of leaks: they pass on the platform, and find each seeded fault."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests_support import copy_of_state

import feature_repo.online_writing
import feature_repo.opened_views
import feature_repo.point_in_time
import feature_repo.request_rows
import feature_repo.windows
import serving.online_views
from configs.features import RequestFeatures, TableFeatures, WindowedFeatures
from feature_repo.aggregations import feature_values
from feature_repo.point_in_time import View, point_in_time_join
from feature_repo.scalar_expressions import Evaluate
from feature_repo.store import materialize_group, open_store
from mlway_assets.checks import no_leak_check, online_skew_check, parity_check
from mlway_assets.compute.bits import same_bits
from mlway_assets.feature_tables import write_group
from mlway_assets.leakage import CREATED, find_leaks, poisoned_values
from mlway_assets.online_skew import find_online_skew
from mlway_assets.parity import compare_paths
from mlway_assets.resources import Platform

PRODUCT = "flight_delay"


def table_groups(platform: Platform, *names: str) -> list[TableFeatures]:
    groups = [group for group in platform.project.features.values() if not isinstance(group, RequestFeatures)]
    return [group for group in groups if not names or group.name in names]


@pytest.fixture
def own_platform(built_platform: Platform, tmp_path: Path) -> Platform:
    """A copy of the platform's state, to write faults into."""
    return copy_of_state(built_platform, tmp_path)


def materialize(platform: Platform, *names: str) -> None:
    store = open_store(platform.environment)
    for group in table_groups(platform, *names):
        materialize_group(store, group, platform.clock.now())


def test_every_way_gives_the_same_bits(built_platform: Platform) -> None:
    report = compare_paths(list(built_platform.project.features.values()), built_platform)
    result = parity_check(report)
    assert result.passed, result.description
    assert report.compared.keys() == {"online", "ttl edge", "micro-batches", "request rows"}
    assert min(report.compared.values()) > 100


def test_nothing_from_the_future_reaches_the_training_set(built_platform: Platform) -> None:
    result = no_leak_check(find_leaks(built_platform.project.products[PRODUCT], built_platform))
    assert result.passed, result.description


def test_the_online_store_holds_what_training_has_seen(built_platform: Platform) -> None:
    result = online_skew_check(find_online_skew(built_platform.project.products[PRODUCT], built_platform))
    assert result.passed, result.description


def test_an_online_store_without_values_is_skewed(own_platform: Platform, built_platform: Platform) -> None:
    store = Path(own_platform.environment.feature_store.online.path)  # type: ignore[union-attr]
    store.unlink()
    open_store(own_platform.environment).refresh_registry()
    materialize_nothing(own_platform)
    result = online_skew_check(find_online_skew(own_platform.project.products[PRODUCT], own_platform))
    assert not result.passed
    assert not parity_check(compare_paths(table_groups(own_platform, "route"), own_platform)).passed


def materialize_nothing(platform: Platform) -> None:
    """Online tables without a row."""
    from feature_repo.store import register_features

    register_features(platform.environment, platform.project)


def ttl_off_online(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(serving.online_views.ViewReader, "columns", without_ttl(serving.online_views.ViewReader.columns))


def without_ttl(columns: Callable[..., Any]) -> Callable[..., Any]:
    def forgetful(reader: Any, *arguments: Any) -> Any:
        reader._time_to_live = 0
        return columns(reader, *arguments)

    return forgetful


def rounding_online(patch: pytest.MonkeyPatch) -> None:
    write_otherwise(patch, pl.selectors.float().round(6))


def float32_online(patch: pytest.MonkeyPatch) -> None:
    write_otherwise(patch, pl.selectors.float().cast(pl.Float32).cast(pl.Float64))


def write_otherwise(patch: pytest.MonkeyPatch, changed: pl.Expr) -> None:
    honest = feature_repo.online_writing.checked_rows

    def lossy(view: Any, rows: pl.DataFrame) -> pl.DataFrame:
        return honest(view, rows.with_columns(changed))

    patch.setattr(feature_repo.online_writing, "checked_rows", lossy)


def test_values_that_outlive_their_ttl_online_are_found(
    built_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    ttl_off_online(monkeypatch)
    report = compare_paths(table_groups(built_platform, "origin_weather"), built_platform)
    assert {difference.path for difference in report.differences} == {"ttl edge"}


@pytest.mark.parametrize("fault", [rounding_online, float32_online])
def test_values_that_lose_digits_on_their_way_online_are_found(
    fault: Callable[[pytest.MonkeyPatch], None], own_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fault(patch)
        materialize(own_platform, "route_history")
    report = compare_paths(table_groups(own_platform, "route_history"), own_platform)
    assert {(found.path, found.feature) for found in report.differences} <= {
        ("online", "route_arrival_delay_mean_28d"),
        ("online", "route_late_share_28d"),
    }
    assert not parity_check(report).passed


@pytest.fixture
def late_window() -> Iterator[pytest.MonkeyPatch]:
    """Windows [T - w, T] instead of (T - w, T]: one microsecond too many, in the batch path."""
    with pytest.MonkeyPatch.context() as patch:
        honest = feature_repo.windows.window_values

        def wide(group: Any, events: pl.LazyFrame, moments: pl.LazyFrame) -> pl.LazyFrame:
            wider = tuple(window + timedelta(microseconds=1) for window in group.windows)
            named = dict(zip(group.model_copy(update={"windows": wider}).types, group.types, strict=True))
            return honest(group.model_copy(update={"windows": wider}), events, moments).rename(named)

        patch.setattr("feature_repo.aggregations.window_values", wide)
        yield patch


def test_a_window_edge_off_by_a_microsecond_is_found(own_platform: Platform, late_window: pytest.MonkeyPatch) -> None:
    group = table_groups(own_platform, "origin_departures")[0]
    write_group(group, own_platform.lake, own_platform.clock.now())
    late_window.undo()
    materialize(own_platform, group.name)
    report = compare_paths([group], own_platform)
    assert {difference.path for difference in report.differences} == {"micro-batches"}


def test_a_correction_that_is_seen_before_it_was_written_is_found(
    built_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = View

    def blind(values: pl.LazyFrame, keys: Any, features: Any, moment: str, created: str | None, ttl: timedelta) -> View:
        return honest(values.drop(created) if created else values, keys, features, moment, None, ttl)

    monkeypatch.setattr(feature_repo.opened_views, "View", blind)
    report = find_leaks(built_platform.project.products[PRODUCT], built_platform)
    assert not no_leak_check(report).passed
    assert "route_arrival_delay_mean_28d" in report.leaking


def test_a_join_that_sees_the_future_is_found(built_platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def early(entities: pl.DataFrame, timestamp: str, views: Any) -> pl.DataFrame:
        later = entities.with_columns(pl.col(timestamp) + timedelta(hours=1))
        return honest(later, timestamp, views).with_columns(entities[timestamp])

    honest = feature_repo.point_in_time.point_in_time_join
    monkeypatch.setattr("feature_repo.slices.point_in_time_join", early)
    report = find_leaks(built_platform.project.products[PRODUCT], built_platform)
    assert report.leaking


def one_ulp_off(value: Any) -> Any:
    return math.nextafter(value, math.inf) if isinstance(value, float) else value


def nulls_become_zero(value: Any) -> Any:
    return 0 if value is None else value


def whole_numbers_become_real(value: Any) -> Any:
    return float(value) if type(value) is int else value


@pytest.mark.parametrize(
    ("fault", "feature"),
    [
        (one_ulp_off, "turnaround_slack_minutes"),
        (nulls_become_zero, "aircraft_age_years"),
        (nulls_become_zero, "carrier_code"),
        (whole_numbers_become_real, "departure_minute_of_day"),
    ],
)
def test_a_request_feature_that_a_row_gets_otherwise_than_a_frame_is_found(
    fault: Callable[[Any], Any], feature: str, built_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = feature_repo.request_rows._compile

    def faulty(group: RequestFeatures, kinds: Any) -> Evaluate:
        compiled, place = honest(group, kinds), list(group.features).index(feature)
        assert compiled is not None

        def evaluate(*values: Any) -> tuple[Any, ...]:
            row = compiled(*values)
            return (*row[:place], fault(row[place]), *row[place + 1 :])

        return evaluate

    monkeypatch.setattr(feature_repo.request_rows, "_compile", faulty)
    report = compare_paths([built_platform.project.features["departure_request"]], built_platform)
    assert {(found.path, found.feature) for found in report.differences} == {("request rows", feature)}
    assert not parity_check(report).passed


def test_request_features_are_held_together_once_for_each_population(built_platform: Platform) -> None:
    products = dict(built_platform.project.products)
    group = built_platform.project.features["departure_request"]
    shared = compare_paths([group], built_platform).compared["request rows"]
    other = products["flight_delay"].population.model_copy(update={"horizon": timedelta(hours=3)})
    products["arrival_delay"] = products["arrival_delay"].model_copy(update={"population": other})
    platform = Platform(replace(built_platform.project, products=products), built_platform.environment)
    assert compare_paths([group], platform).compared["request rows"] == 2 * shared
    unused = Platform(replace(built_platform.project, products={}), built_platform.environment)
    assert compare_paths([group], unused).compared["request rows"] == 0


def test_bits_tell_what_equality_does_not() -> None:
    first = pl.Series([0.0, 0.1, None, float("nan")])
    second = pl.Series([-0.0, 0.1, None, float("nan")])
    assert same_bits(first, second).to_list() == [False, True, True, True]
    assert same_bits(first, first.cast(pl.Float32)).to_list() == [False] * 4


def test_the_poison_changes_what_it_may_and_the_values_that_hang_on_it(built_platform: Platform) -> None:
    group = table_groups(built_platform, "carrier_arrivals")[0]
    table = built_platform.lake.scan("curated", "fact_flights")
    moment = built_platform.clock.now() - timedelta(days=3)
    poisoned = poisoned_values(group, table, moment - timedelta(hours=1), moment)  # type: ignore[arg-type]
    before = pl.col("event_timestamp").is_between(moment - timedelta(hours=1), moment)
    genuine = feature_values(group, table).filter(before).collect()
    assert poisoned.filter(before, pl.col(CREATED) <= moment).drop(CREATED).equals(genuine)
    late = poisoned.filter(before, pl.col(CREATED) > moment)
    assert len(late) == len(genuine)
    assert not late["carrier_delay_gained_mean_1d"].is_in(genuine["carrier_delay_gained_mean_1d"].implode()).all()


COUNTED = {
    "plain": {},
    "of some rows": {"where": "outcome = 'arrived'"},
    "of events": {"event_key": ["number"]},
    "of events of some rows": {
        "event_key": ["number", "outcome"],
        "where": "outcome = 'arrived' AND at IS NOT NULL",
    },
}


@pytest.mark.parametrize("declared", COUNTED.values(), ids=COUNTED.keys())
@pytest.mark.parametrize(
    "aggregation",
    [
        {"function": "count"},
        {"function": "distinct_count", "of": "at"},
        {"function": "maximum", "of": "CAST(date_part('day', at) AS BIGINT)"},
        {"function": "last", "of": "CAST(date_part('day', day) AS BIGINT)"},
    ],
    ids=lambda aggregation: aggregation["function"],
)
def test_a_join_that_sees_the_future_is_found_by_counts_and_by_moments(
    declared: dict[str, Any], aggregation: dict[str, Any]
) -> None:
    group = WindowedFeatures.model_validate(
        {
            "name": "counted",
            "kind": "windowed",
            "description": "One feature.",
            "entity": "key",
            "join_keys": {"key": "string"},
            "table": "events",
            "known_at": "known_at",
            "windows": ["1h"],
            "aggregations": {"it": aggregation},
        }
        | declared
    )
    moment, minute = datetime(2013, 2, 10, 12, tzinfo=UTC), timedelta(minutes=1)
    known = [moment + n * minute for n in range(-5, 5)]
    shown = {"known_at": known, "at": known, "day": [at.date() for at in known], "number": range(10)}
    table = pl.DataFrame({"key": ["a"] * 10, "outcome": ["arrived"] * 10} | shown).lazy()
    poisoned = poisoned_values(group, table, moment - minute, moment).filter(
        pl.col(CREATED) == pl.col("event_timestamp")
    )
    genuine = feature_values(group, table).collect()
    rows = pl.DataFrame({"key": ["a"], "event_timestamp": [moment]})

    def joined(values: pl.DataFrame, later: timedelta) -> Any:
        stepped = values.lazy().rename({"event_timestamp": "moment"})
        view = View(stepped, ["key"], ["it_1h"], "moment", None, timedelta(hours=1))
        asked = rows.with_columns(pl.col("event_timestamp") + later)
        return point_in_time_join(asked, "event_timestamp", [view])["it_1h"].item()

    assert joined(poisoned, timedelta(0)) == joined(genuine, timedelta(0))
    assert joined(poisoned, 2 * minute) != joined(genuine, 2 * minute)
