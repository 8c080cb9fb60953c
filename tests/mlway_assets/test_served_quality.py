"""The quality of what endpoints answered, by the labels of the very rows that they were asked about."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from answering_support import TODAY, answer, at, forget_decisions, platform_with_endpoints, upcoming
from sklearn.metrics import log_loss, roc_auc_score

from configs.load import Project
from configs.products import ModelProduct
from mlway_assets.checks import SERVED_QUALITY
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.quality_checks import quality_check
from mlway_assets.quality_reports import LABELLED_SHARE
from mlway_assets.resources import Platform
from mlway_assets.served_quality import served_quality_table, served_slices_table, watch_served_quality
from serving.decision_log import Decision

PRODUCT, ROWS = "flight_delay", 150
FIRST = TODAY + timedelta(days=1)
"""On the day before most flights were cancelled, after a blizzard."""
DAYS = [FIRST + timedelta(days=after) for after in range(3)]
SETTLED = datetime(2013, 2, 15, tzinfo=UTC)
_REPLICAS = itertools.count()


@pytest.fixture(scope="module")
def with_endpoints(built_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return platform_with_endpoints(built_platform, tmp_path_factory.mktemp("served_quality"))


@pytest.fixture
def platform(with_endpoints: Platform) -> Iterator[Platform]:
    yield with_endpoints
    forget_decisions(with_endpoints)


def declared(platform: Platform, name: str = PRODUCT) -> ModelProduct:
    return platform.project.products[name]


def ask(platform: Platform, day: date, rows: int = ROWS, name: str = PRODUCT, **how: Any) -> None:
    """Answer as of the beginning of a day, about its first flights."""
    then = at(platform, datetime(day.year, day.month, day.day, tzinfo=UTC))
    answer(then, name, upcoming(platform, rows, name, day), replica=f"r{next(_REPLICAS)}", **how)


def ask_each_day(platform: Platform, name: str = PRODUCT, **how: Any) -> None:
    for day in DAYS:
        ask(platform, day, name=name, **how)


def upside_down(decision: Decision) -> Decision:
    return replace(decision, scores=[1 - score for score in decision.scores])


def kept(platform: Platform, name: str = PRODUCT) -> pl.DataFrame:
    return platform.lake.scan(LAYER, served_quality_table(name)).collect().sort("event_day", "metric")


def value(table: pl.DataFrame, day: date, metric: str) -> float:
    [found] = table.filter((pl.col("event_day") == day) & (pl.col("metric") == metric))["value"]
    return float(found)


def test_every_answer_counts_with_the_label_of_the_row_that_it_was_about(platform: Platform) -> None:
    ask_each_day(platform)
    # One of them is asked about again, and counts again.
    ask(platform, FIRST, 1)
    found = watch_served_quality(declared(platform), at(platform, SETTLED), DAYS)[-1]
    decisions = platform.lake.scan("raw", f"decisions_{PRODUCT}").collect()
    flights = platform.lake.scan_days("curated", "fact_flights", DAYS).collect()
    request = list(declared(platform).population.request)
    labels = {tuple(flight[name] for name in request): flight for flight in flights.iter_rows(named=True)}
    for day in DAYS:
        pairs = [
            (labels[tuple(row[f"request_{name}"] for name in request)]["arrival_delay_minutes"], row["score"])
            for row in decisions.filter(pl.col("event_day") == day).iter_rows(named=True)
        ]
        assert len(pairs) == ROWS + (day == FIRST)
        known = [(minutes >= 15, score) for minutes, score in pairs if minutes is not None]
        late, scores = zip(*known, strict=True)
        table = kept(platform)
        assert value(table, day, "log_loss") == pytest.approx(log_loss(late, scores), rel=1e-12)
        assert value(table, day, "roc_auc") == pytest.approx(roc_auc_score(late, scores), rel=1e-12)
        assert value(table, day, LABELLED_SHARE) == len(known) / len(pairs)
    assert (found.rows, found.unlabelled) == (3 * ROWS + 1, found.rows - found.labelled)
    told = quality_check(SERVED_QUALITY, found)
    assert told.passed
    assert "log_loss over 3 days" in str(told.description)


@pytest.mark.parametrize(("name", "metric"), [("arrival_delay", "coverage"), ("flight_ranking", "ndcg_at_5")])
def test_intervals_and_rankings_are_measured_as_they_were_given(name: str, metric: str, platform: Platform) -> None:
    ask_each_day(platform, name, is_one_request=True)
    found = watch_served_quality(declared(platform, name), at(platform, SETTLED), DAYS)[-1]
    assert found.verdict.comparison is not None
    least = 0.5 if metric == "coverage" else 0.0
    assert least < value(kept(platform, name), FIRST, metric) <= 1 + 1e-9


def test_answers_that_mislead_fail_the_check_though_the_champion_is_as_good_as_ever(platform: Platform) -> None:
    ask_each_day(platform, alter=upside_down)
    found = watch_served_quality(declared(platform), at(platform, SETTLED), DAYS)[-1]
    told = quality_check(SERVED_QUALITY, found)
    assert not told.passed
    assert "% worse" in str(told.description)
    assert "picture" in told.metadata


def test_labels_come_late_and_days_before_are_measured_again(platform: Platform) -> None:
    ask_each_day(platform)
    product = declared(platform)
    [early] = watch_served_quality(product, at(platform, datetime(2013, 2, 11, tzinfo=UTC)), [FIRST])
    assert (early.rows, early.labelled) == (0, 0)
    # The labels that are known are those of the first to arrive: they do not count, the others are waited for.
    assert 0 < early.unlabelled < ROWS
    assert "too few" in str(quality_check(SERVED_QUALITY, early).description)
    assert FIRST not in set(kept(platform)["event_day"])
    watch_served_quality(product, at(platform, SETTLED), [DAYS[-1]])
    assert set(kept(platform)["event_day"]) == set(DAYS)
    assert kept(platform)["is_settled"].all()


def test_what_the_baseline_answered_is_kept_beside_the_champion_and_does_not_judge_it(platform: Platform) -> None:
    ask_each_day(platform)
    before = watch_served_quality(declared(platform), at(platform, SETTLED), DAYS)[-1]
    ask(platform, FIRST, is_baseline=True)
    after = watch_served_quality(declared(platform), at(platform, SETTLED), DAYS)[-1]
    assert after.days == before.days
    table = kept(platform).filter((pl.col("event_day") == FIRST) & (pl.col("metric") == "log_loss"))
    assert sorted(table["model_version"].to_list(), key=str) == [1, None]
    assert table["value"].n_unique() == 2


def test_a_slice_is_named_whose_answers_mislead(platform: Platform) -> None:
    def mislead(decision: Decision) -> Decision:
        return upside_down(decision) if decision.requests[0]["origin"] == "LGA" else decision

    ask_each_day(platform, alter=mislead)
    product = declared(platform)
    slices = product.monitoring.quality.slices.model_copy(update={"by": ("origin",), "minimum_rows": 50})
    quality = product.monitoring.quality.model_copy(update={"slices": slices})
    product = product.model_copy(update={"monitoring": product.monitoring.model_copy(update={"quality": quality})})
    found = watch_served_quality(product, at(platform, SETTLED), DAYS)[-1]
    assert "Suspected: origin = LGA" in str(quality_check(SERVED_QUALITY, found).description)
    slices_kept = platform.lake.scan(LAYER, served_slices_table(PRODUCT)).collect()
    assert set(slices_kept["slice"]) == {"EWR", "JFK", "LGA"}


def test_what_the_log_hides_has_no_label(platform: Platform) -> None:
    aircraft = platform.project.features["aircraft"].model_copy(update={"tags": ("pii",)})
    features = {**platform.project.features, "aircraft": aircraft}
    hiding = Platform(Project(platform.project.sources, features, platform.project.products), platform.environment)
    hiding.__dict__["registry"] = platform.registry
    ask(hiding, FIRST)
    [found] = watch_served_quality(declared(hiding), at(hiding, SETTLED), [FIRST])
    assert (found.rows, found.unlabelled) == (0, ROWS)


def test_a_day_with_few_answers_says_nothing_and_neither_does_one_without(platform: Platform) -> None:
    for rows in (0, 10):
        if rows:
            ask(platform, FIRST, rows)
        [found] = watch_served_quality(declared(platform), at(platform, SETTLED), [FIRST])
        assert (found.rows, found.verdict.comparison) == (0, None)
        assert quality_check(SERVED_QUALITY, found).passed
