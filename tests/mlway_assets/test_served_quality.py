"""The quality of what endpoints answered, by the labels of the very rows that they were asked about."""

import itertools
import json
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from answering_support import TODAY, answer, at, upcoming
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from configs.load import Project
from configs.products import ModelProduct
from mlway_assets.checks import SERVED_QUALITY
from mlway_assets.day_checks import LABELS, labels_check
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.logged_decisions import sample_decisions
from mlway_assets.quality_checks import quality_check
from mlway_assets.quality_reports import LABELLED_SHARE
from mlway_assets.resources import Platform
from mlway_assets.served_quality import (
    served_labels_table,
    served_quality_table,
    served_slices_table,
    watch_served_quality,
)
from serving.decision_log import Decision

PRODUCT, ROWS = "flight_delay", 150
FIRST = TODAY + timedelta(days=1)
"""On the day before most flights were cancelled, after a blizzard."""
DAYS = [FIRST + timedelta(days=after) for after in range(3)]
SETTLED = datetime(2013, 2, 15, tzinfo=UTC)
_REPLICAS = itertools.count()


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
    outcomes = platform.lake.scan(LAYER, served_labels_table(PRODUCT)).collect()
    by_decision = decisions.join(outcomes, on=["decision_id", "row"], validate="1:1", suffix="_kept")
    minutes = [
        labels[tuple(row[f"request_{name}"] for name in request)]["arrival_delay_minutes"]
        for row in by_decision.iter_rows(named=True)
    ]
    assert by_decision["label"].to_list() == [late >= 15 for late in minutes]
    assert by_decision["score"].equals(by_decision["score_kept"], check_names=False)
    assert len(by_decision) == found.labelled
    assert (found.rows, found.unlabelled) == (3 * ROWS + 1, found.rows - found.labelled)
    told = quality_check(SERVED_QUALITY, found)
    assert told.passed
    assert "log_loss over 3 days" in str(told.description)


def test_intervals_are_measured_as_they_were_given(platform: Platform) -> None:
    ask_each_day(platform, "arrival_delay")
    found = watch_served_quality(declared(platform, "arrival_delay"), at(platform, SETTLED), DAYS)[-1]
    assert found.verdict.comparison is not None
    asked = upcoming(platform, ROWS, "arrival_delay", FIRST)
    delays = platform.lake.scan("curated", "fact_flights").select(*asked.columns, "arrival_delay_minutes").collect()
    delay_of = {row[:-1]: row[-1] for row in delays.iter_rows()}
    decisions = platform.lake.scan("raw", "decisions_arrival_delay").filter(pl.col("event_day") == FIRST).collect()
    inside = []
    for row in decisions.iter_rows(named=True):
        delay = delay_of[tuple(row[f"request_{name}"] for name in asked.columns)]
        given = json.loads(row["answer"])
        inside += [] if delay is None else [given["lower"] <= delay <= given["upper"]]
    assert value(kept(platform, "arrival_delay"), FIRST, "coverage") == pytest.approx(sum(inside) / len(inside))


def test_a_ranking_is_measured_query_by_query_also_where_one_request_holds_several(platform: Platform) -> None:
    name = "flight_ranking"
    ask_each_day(platform, name, is_one_request=True)
    watch_served_quality(declared(platform, name), at(platform, SETTLED), DAYS)
    flights = platform.lake.scan("curated", "fact_flights").collect()
    request = list(declared(platform, name).population.request)
    flight_of = {tuple(flight[field] for field in request): flight for flight in flights.iter_rows(named=True)}
    queries = defaultdict(list)
    decisions = platform.lake.scan("raw", f"decisions_{name}").filter(pl.col("event_day") == FIRST).collect()
    for row in decisions.iter_rows(named=True):
        flight = flight_of[tuple(row[f"request_{field}"] for field in request)]
        query = (flight["dest"], flight["event_day"], flight["scheduled_departure"].hour // 6)
        delay = 100_000 if flight["arrival_delay_minutes"] is None else flight["arrival_delay_minutes"]
        queries[query].append((3 if delay <= 0 else 2 if delay < 15 else 1 if delay < 45 else 0, row["score"]))
    told = []
    for pairs in queries.values():
        grades, scores = (np.array(column, dtype=float)[np.newaxis] for column in zip(*pairs, strict=True))
        if len(pairs) > 1 and grades.max() > grades.min():
            told.append(ndcg_score(2**grades - 1, scores, k=5))
    assert len(told) > 5
    assert value(kept(platform, name), FIRST, "ndcg_at_5") == pytest.approx(np.mean(told), rel=1e-9)


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
    # The labels that are known are those of the first to arrive, no fair sample.
    assert (early.rows, early.labelled) == (0, 0)
    assert 0 < early.unlabelled < ROWS
    assert f"{early.unlabelled} wait for theirs" in str(quality_check(SERVED_QUALITY, early).description)
    of_first = kept(platform).filter(pl.col("event_day") == FIRST)
    assert not of_first["is_settled"].any()
    watch_served_quality(product, at(platform, SETTLED), [DAYS[-1]])
    assert set(kept(platform)["event_day"]) == set(DAYS)
    assert kept(platform)["is_settled"].all()
    assert value(kept(platform), FIRST, LABELLED_SHARE) > value(of_first, FIRST, LABELLED_SHARE)


def test_what_was_asked_when_the_label_was_known_or_long_before_is_no_prediction(platform: Platform) -> None:
    ask_each_day(platform)
    before = watch_served_quality(declared(platform), at(platform, SETTLED), DAYS)[-1]
    evening = at(platform, datetime(2013, 2, 12, 23, 59, tzinfo=UTC))
    arrived = upcoming(platform, 20, day=FIRST)
    answer(evening, PRODUCT, arrived, replica="late")
    longest = declared(platform).monitoring.served_quality.longest_lead
    ahead = upcoming(platform, 20, day=FIRST).with_columns(pl.col("scheduled_departure") + longest + timedelta(days=4))
    answer(evening, PRODUCT, ahead, replica="early")
    assert watch_served_quality(declared(platform), at(platform, SETTLED), DAYS)[-1] == before


def test_answers_that_match_no_row_are_told_as_labels_that_do_not_come(platform: Platform) -> None:
    def elsewhere(decision: Decision) -> Decision:
        return replace(decision, requests=[{**request, "dest": "nowhere"} for request in decision.requests])

    ask_each_day(platform, alter=elsewhere)
    found = watch_served_quality(declared(platform), at(platform, SETTLED), DAYS)[-1]
    assert [(each.rows, each.labelled) for each in found.without_labels] == [(ROWS, 0)] * 3
    told = labels_check(LABELS, found)
    assert not told.passed
    assert "450 of 450 labels are missing" in str(told.description)


def test_one_row_asked_about_again_and_again_does_not_decide_a_day(platform: Platform) -> None:
    one = upcoming(platform, 1, day=FIRST)
    then = at(platform, datetime(2013, 2, 10, tzinfo=UTC))
    answer(then, PRODUCT, pl.concat([one] * 60), replica="again")
    found = watch_served_quality(declared(platform), at(platform, SETTLED), DAYS)[-1]
    assert (found.days, found.without_labels) == ((), ())


def test_a_field_that_was_declared_since_leaves_what_was_known_of_former_answers(platform: Platform) -> None:
    ask_each_day(platform)
    product = declared(platform)
    watch_served_quality(product, at(platform, SETTLED), DAYS)
    before = kept(platform)
    request = {**product.population.request, "time_hour": "timestamp"}
    asked = product.population.model_copy(update={"request": request})
    changed = product.model_copy(update={"population": asked})
    table = "fact_flights"
    flights = platform.lake.scan("curated", table).with_columns(time_hour=pl.col("scheduled_departure")).collect()
    kept_flights = platform.lake.scan("curated", table).collect()
    days = flights["event_day"].unique().to_list()
    platform.lake.replace_days("curated", table, flights, days)
    try:
        watch_served_quality(changed, at(platform, SETTLED), DAYS)
    finally:
        platform.lake.replace_days("curated", table, kept_flights, days)
    assert kept(platform).equals(before)


def test_a_sample_of_a_day_is_of_whole_decisions_and_always_the_same(platform: Platform) -> None:
    for start in range(0, 120, 4):
        rows = upcoming(platform, 120, day=FIRST)[start : start + 4]
        answer(at(platform, datetime(2013, 2, 10, tzinfo=UTC)), PRODUCT, rows, is_one_request=True, replica=f"s{start}")
    logged = platform.lake.scan("raw", f"decisions_{PRODUCT}")
    sample = sample_decisions(logged, 60).collect()
    assert 12 <= len(sample) <= 108
    assert set(sample.group_by("decision_id").len()["len"]) == {4}
    assert sample.equals(sample_decisions(logged, 60).collect())
    assert len(sample_decisions(logged, 120).collect()) == 120


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
    assert (found.rows, found.unlabelled, found.hidden) == (0, 0, ROWS)
    assert f"The log hides what {ROWS} others were about" in str(quality_check(SERVED_QUALITY, found).description)


def test_a_day_with_few_answers_says_nothing_and_neither_does_one_without(platform: Platform) -> None:
    for rows in (0, 10):
        if rows:
            ask(platform, FIRST, rows)
        [found] = watch_served_quality(declared(platform), at(platform, SETTLED), [FIRST])
        assert (found.rows, found.verdict.comparison) == (0, None)
        assert quality_check(SERVED_QUALITY, found).passed
