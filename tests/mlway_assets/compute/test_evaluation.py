"""Metrics, gate and population."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from configs.load import load_project
from configs.tasks import PromotionGate
from mlway_assets.compute.evaluation import OneClassError, binary_metrics, calibration_error
from mlway_assets.compute.gate import gate_rules
from mlway_assets.compute.population import part_of, rows_to_score


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
    assert [rule.is_met for rule in gate_rules(gate, {"roc_auc": 0.72}, None)] == [True]
    assert [rule.is_met for rule in gate_rules(gate, {"roc_auc": 0.72}, {"roc_auc": 0.725})] == [True, True]
    assert [rule.is_met for rule in gate_rules(gate, {"roc_auc": 0.72}, {"roc_auc": 0.74})] == [True, False]
    assert [rule.is_met for rule in gate_rules(gate, {"roc_auc": float("nan")}, None)] == [False]


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
