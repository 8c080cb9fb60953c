"""Metrics, gate and population."""

from datetime import UTC, date, datetime, timedelta
from itertools import permutations

import numpy as np
import polars as pl
import pytest

from configs.gates import PromotionGate
from configs.load import load_project
from mlway_assets.compute.evaluation import (
    NothingToRankError,
    OneClassError,
    binary_metrics,
    calibration_error,
    query_ndcg,
    ranking_metrics,
    regression_metrics,
)
from mlway_assets.compute.gate import metric_rules
from mlway_assets.compute.measurement import RelevanceError, measure, measure_baseline, targets
from mlway_assets.compute.population import QUERY, labelled_rows, part_of, rows_to_score
from serving.baseline import baseline_scores
from serving.scoring import Scores


def test_a_perfectly_calibrated_score_has_no_calibration_error() -> None:
    scores = np.repeat([0.25, 0.75], 400)
    labels = np.concatenate([np.tile([1, 0, 0, 0], 100), np.tile([1, 1, 1, 0], 100)]).astype(float)
    assert calibration_error(labels, scores) == pytest.approx(0)


def test_a_score_that_is_off_by_a_tenth_has_a_calibration_error_of_a_tenth() -> None:
    assert calibration_error(np.tile([1.0, 0.0], 500), np.full(1000, 0.6)) == pytest.approx(0.1)


def test_labels_of_one_class_are_an_error_and_not_a_number() -> None:
    with pytest.raises(OneClassError, match="All 3 labels are of one class"):
        binary_metrics(np.ones(3), np.array([0.1, 0.2, 0.3]))


def test_the_gate_compares_with_the_minimum_and_the_champion() -> None:
    gate = PromotionGate(metric="roc_auc", minimum=0.7, champion_margin=0.01)
    assert [rule.is_met for rule in metric_rules(gate, {"roc_auc": 0.72}, None)] == [True]
    assert [rule.is_met for rule in metric_rules(gate, {"roc_auc": 0.72}, {"roc_auc": 0.725})] == [True, True]
    assert [rule.is_met for rule in metric_rules(gate, {"roc_auc": 0.72}, {"roc_auc": 0.74})] == [True, False]
    assert [rule.is_met for rule in metric_rules(gate, {"roc_auc": float("nan")}, None)] == [False]


def test_a_label_not_yet_known_at_the_end_of_training_is_left_out_of_it() -> None:
    product = load_project().products["flight_delay"]
    end = product.training.split.train_until
    departs = datetime(2013, 8, 31, 22, tzinfo=UTC)
    frame = pl.DataFrame(
        {"scheduled_departure": [departs] * 2, "label_known_at": [end, datetime(2013, 9, 1, 0, 1, tzinfo=UTC)]}
    )
    assert len(part_of(frame, product, "train")) == 1


def test_features_are_as_of_the_horizon_or_of_now_if_that_is_sooner() -> None:
    product = load_project().products["flight_delay"]
    fields = {key: [None, None] for key in ["event_day", "carrier", "flight", "origin", "dest", "tailnum"]}
    departs = [datetime(2013, 10, 1, hour, tzinfo=UTC) for hour in (1, 9)]
    frame = pl.LazyFrame({**fields, "scheduled_departure": departs})
    now = datetime(2013, 10, 1, 2, tzinfo=UTC)
    moments = rows_to_score(product, frame, now).collect()["event_timestamp"].to_list()
    assert moments == [datetime(2013, 9, 30, 23, tzinfo=UTC), now]


def test_regression_metrics_are_those_computed_by_hand() -> None:
    labels = np.array([0.0, 10.0, -5.0, 30.0])
    scores = Scores(np.array([1.0, 8.0, -5.0, 20.0]), np.array([0.0, 9.0, -6.0, 10.0]), np.array([2.0, 9.5, 0.0, 25.0]))
    found = regression_metrics(labels, scores)
    assert (found["mae"], found["median_absolute_error"], found["bias"]) == (3.25, 1.5, -2.75)
    assert found["rmse"] == pytest.approx(np.sqrt((1 + 4 + 0 + 100) / 4))
    assert (found["coverage"], found["interval_width"]) == (0.5, pytest.approx((2 + 0.5 + 6 + 15) / 4))
    assert "coverage" not in regression_metrics(labels, Scores(scores.score))


def test_ndcg_is_that_of_scikit_learn_ties_and_all() -> None:
    from sklearn.metrics import ndcg_score

    random = np.random.default_rng(3)
    queries = pl.Series(np.repeat(np.arange(60), 7))
    grades, scores = random.integers(0, 4, 420).astype(float), random.integers(0, 5, 420).astype(float)
    found = query_ndcg(queries, grades, scores, 5)
    for query, _, ndcg in found.iter_rows():
        rows = slice(query * 7, query * 7 + 7)
        expected = ndcg_score([2 ** grades[rows] - 1], [scores[rows]], k=5)
        assert ndcg == pytest.approx(expected), query
    assert ranking_metrics(queries, grades, scores, 5)["ndcg_at_5"] == pytest.approx(found["ndcg"].mean())


def test_a_constant_score_has_the_mean_ndcg_of_every_order() -> None:
    grades, queries = np.array([2.0, 0.0, 1.0, 0.0]), pl.Series(["q"] * 4)
    each = [query_ndcg(queries, grades, np.array(order, dtype=float), 2)["ndcg"][0] for order in permutations(range(4))]
    assert query_ndcg(queries, grades, np.zeros(4), 2)["ndcg"][0] == pytest.approx(np.mean(each))


def test_queries_that_no_order_can_serve_better_are_left_out() -> None:
    queries = pl.Series(["alone", "equal", "equal", "told", "told"])
    grades, scores = np.array([3.0, 1.0, 1.0, 0.0, 2.0]), np.arange(5.0)
    assert query_ndcg(queries, grades, scores, 5).rows() == [("told", 2, 1.0)]
    with pytest.raises(NothingToRankError, match="None of the queries of these 3 rows"):
        ranking_metrics(queries[:3], grades[:3], scores[:3], 5)


def met(gate: PromotionGate, seen: dict[str, float], champion: float | None = None, baseline: float = 0) -> list[bool]:
    best = None if champion is None else {gate.metric_name: champion}
    return [rule.is_met for rule in metric_rules(gate, seen, best, {gate.metric_name: baseline})]


def test_a_gate_on_an_error_lets_less_pass_and_wants_it_below_the_champions() -> None:
    gate = PromotionGate(metric="mae", maximum=25, champion_margin=1)
    assert met(gate, {"mae": 24}) == [True]
    assert met(gate, {"mae": 26}) == [False]
    assert met(gate, {"mae": 24}, champion=23.5) == [True, True]
    assert met(gate, {"mae": 24}, champion=22) == [True, False]
    assert met(gate, {"mae": float("nan")}, champion=22) == [False, False]


def test_a_gate_on_coverage_has_two_ends() -> None:
    gate = PromotionGate.model_validate(
        {"metric": "mae", "maximum": 25, "coverage": {"minimum": 0.75, "maximum": 0.85}}
    )
    assert met(gate, {"mae": 20, "coverage": 0.8}) == [True, True, True]
    assert met(gate, {"mae": 20, "coverage": 0.7}) == [True, False, True]
    assert met(gate, {"mae": 20, "coverage": 0.9}) == [True, True, False]


def test_a_candidate_must_beat_the_baseline_by_the_margin_in_the_metrics_direction() -> None:
    error = PromotionGate(metric="mae", maximum=25, baseline_margin=2)
    assert met(error, {"mae": 20}, baseline=22) == [True, True]
    assert met(error, {"mae": 20.5}, baseline=22) == [True, False]
    order = PromotionGate(metric="ndcg_at_k", k=3, minimum=0.5, baseline_margin=0.02)
    assert met(order, {"ndcg_at_3": 0.83}, baseline=0.8) == [True, True]
    assert met(order, {"ndcg_at_3": 0.81}, baseline=0.8) == [True, False]


def flights(hours: list[int], day: int = 1) -> pl.LazyFrame:
    """Flights to Boston of one day, leaving at these hours."""
    departs = [datetime(2013, 3, day, hour, tzinfo=UTC) for hour in hours]
    same = {
        "carrier": "B6",
        "flight": 1,
        "origin": "JFK",
        "dest": "BOS",
        "tailnum": "N1",
        "event_day": date(2013, 3, day),
    }
    return pl.LazyFrame(
        {"scheduled_departure": departs, "arrival_delay_minutes": [-1, 3, 50][: len(hours)]}
    ).with_columns(
        **{name: pl.lit(value) for name, value in same.items()}, arrival_known_at=pl.col("scheduled_departure")
    )


def test_the_rows_of_a_query_are_asked_about_at_one_moment_before_the_first_of_them() -> None:
    product = load_project().products["flight_ranking"]
    rows = labelled_rows(product, flights([13, 16, 19])).collect()
    asked = [moment.hour for moment in rows["event_timestamp"]]
    assert asked == [11, 11, 17]
    assert rows[QUERY].n_unique() == 2
    assert rows[QUERY][0] == '{"part_0":"BOS","part_1":"2013-03-01","part_2":2}'


def test_a_ranking_learns_grades_and_the_baseline_is_the_declared_order() -> None:
    product = load_project().products["flight_ranking"]
    rows = labelled_rows(product, flights([13, 14, 16])).collect()
    assert targets(product, rows).tolist() == [3.0, 2.0, 0.0]
    assert np.argsort(-baseline_scores(product, rows).score).tolist() == [0, 1, 2]
    assert measure_baseline(product, rows)["ndcg_at_5"] == 1
    assert measure(product, rows, Scores(np.arange(3.0)))["ndcg_at_5"] < 0.7


@pytest.mark.parametrize("relevance", ["label - 60", "label * 10", "CASE WHEN label > 0 THEN 1 END"])
def test_relevance_that_is_no_grade_is_refused_with_the_label(relevance: str) -> None:
    product = load_project().products["flight_ranking"]
    assert product.ranking is not None
    ranking = product.ranking.model_copy(update={"relevance": relevance})
    rows = labelled_rows(product, flights([13, 14, 16])).collect()
    with pytest.raises(RelevanceError, match=r"The relevance of flight_ranking for the label -1 is"):
        targets(product.model_copy(update={"ranking": ranking}), rows)


def test_the_baseline_of_a_regression_is_a_value_with_its_interval() -> None:
    product = load_project().products["arrival_delay"]
    found = baseline_scores(product, pl.DataFrame({"flight": [1, 2]}))
    assert found.lower is not None
    assert found.upper is not None
    assert [part.tolist() for part in (found.lower, found.score, found.upper)] == [[-26.0] * 2, [-4.0] * 2, [59.0] * 2]


def test_rows_without_the_field_to_order_by_come_last() -> None:
    product = load_project().products["flight_ranking"]
    start = datetime(2013, 3, 1, tzinfo=UTC)
    rows = pl.DataFrame({"scheduled_departure": [None, start + timedelta(hours=1), start]})
    assert np.argsort(-baseline_scores(product, rows).score).tolist() == [2, 1, 0]
