"""scikit-learn's models as trees: they score as scikit-learn does, and the best of several becomes the candidate."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from training_examples import FEATURES, product, rows

from configs.algorithms import HistogramBoosting, LogisticRegression
from mlway_assets.compute import histogram_boosting, logistic_regression
from mlway_assets.compute.evaluation import OneClassError
from mlway_assets.compute.logistic_regression import ConvergenceError
from mlway_assets.compute.population import LABEL, part_of
from mlway_assets.compute.training import Candidate, scoring_model, train
from mlway_assets.compute.tree_text import booster_text
from serving.scoring import ScoringModel, feature_matrix

Matrix = np.ndarray
NAMES = ["number", "count", "text", "flag"]
TEXT = 2
ALL: dict[str, Any] = {"lightgbm": {"min_data_in_leaf": 5}, "histogram_boosting": {}, "logistic_regression": {}}
NONE_OF_THE_BINS = (np.nan, np.inf, -np.inf, 1e300, -0.0)


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Matrix, Matrix, Matrix]:
    """Rows to learn from with their labels, and rows that ask for everything that training has never seen."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    texts, missing = draw(st.integers(2, 60)), draw(st.sampled_from([0.0, 0.1, 0.6]))
    seen, asked = (_values(random, rows, texts, missing) for rows in (draw(st.integers(60, 400)), 100))
    value = np.nan_to_num(seen[:, 0]) + (seen[:, TEXT] % 3 == 1) + random.normal(size=len(seen))
    asked[: len(NONE_OF_THE_BINS), 0] = NONE_OF_THE_BINS
    asked[-1] = np.nan
    return seen, value, asked


def _values(random: np.random.Generator, rows: int, texts: int, missing: float) -> Matrix:
    found = np.column_stack(
        [
            random.normal(size=rows),
            random.integers(0, 9, rows).astype(float),
            np.minimum(random.geometric(0.1, rows), texts) - 1.0,
            (random.random(rows) < 0.3).astype(float),
        ]
    )
    found[:, :3][random.random((rows, 3)) < missing] = np.nan
    return np.ascontiguousarray(found)


def boosting(
    kind: str, seen: Matrix, targets: Matrix, most: int
) -> tuple[histogram_boosting.Learned, lightgbm.Booster]:
    cut = len(seen) // 4
    columns = histogram_boosting.learn_columns(seen[cut:], (TEXT,), most)
    learned = histogram_boosting.learn(
        HistogramBoosting(max_bins=most, min_samples_leaf=3, max_leaf_nodes=9),
        "binary" if kind == "binary" else "l2",
        columns,
        (seen[cut:], targets[cut:]),
        (seen[:cut], targets[:cut]),
        rounds=12,
        patience=4,
        seed=1,
    )
    text = booster_text(NAMES, "binary" if kind == "binary" else "regression", learned.trees())
    return learned, lightgbm.Booster(model_str=text)


def staged(learned: histogram_boosting.Learned, values: Matrix, kind: str) -> Matrix:
    """What scikit-learn itself says after the best round."""
    stages: Iterator[Matrix]
    if kind == "binary":
        stages = (stage[:, 1] for stage in learned.model.staged_predict_proba(learned.columns.of(values)))
    else:
        stages = learned.model.staged_predict(learned.columns.of(values))
    return next(islice(stages, learned.rounds - 1, None))


@given(example=matrices(), kind=st.sampled_from(["binary", "regression"]), most=st.sampled_from([4, 17, 255]))
@settings(max_examples=25)
def test_histogram_boosting_scores_as_scikit_learn_does(
    example: tuple[Matrix, Matrix, Matrix], kind: str, most: int
) -> None:
    seen, value, asked = example
    learned, booster = boosting(kind, seen, (value > 0.5).astype(float) if kind == "binary" else value, most)
    for values in (seen, asked):
        np.testing.assert_allclose(booster.predict(values), staged(learned, values, kind), rtol=0, atol=1e-12)
        raw = booster.predict(values, raw_score=True)
        np.testing.assert_allclose(booster.predict(values, pred_contrib=True).sum(axis=1), raw, rtol=0, atol=1e-12)


@given(example=matrices(), bins=st.sampled_from([2, 7, 255]))
@settings(max_examples=25)
def test_logistic_regression_scores_as_scikit_learn_does(example: tuple[Matrix, Matrix, Matrix], bins: int) -> None:
    seen, value, asked = example
    learned = logistic_regression.learn(LogisticRegression(bins=bins), seen, (value > 0.5).astype(float), (TEXT,))
    booster = lightgbm.Booster(model_str=booster_text(NAMES, "binary", learned.trees()))
    for values in (seen, asked):
        expected = learned.model.predict_proba(learned.indicators(values))[:, 1]
        np.testing.assert_allclose(booster.predict(values), expected, rtol=0, atol=1e-12)
        raw = booster.predict(values, raw_score=True)
        np.testing.assert_allclose(booster.predict(values, pred_contrib=True).sum(axis=1), raw, rtol=0, atol=1e-12)


@pytest.mark.parametrize("constant", [np.nan, 1.0])
def test_features_that_say_nothing_in_training_change_no_score(constant: float) -> None:
    random = np.random.default_rng(5)
    seen, asked = _values(random, 300, 9, 0.1), _values(random, 100, 9, 0.1)
    seen[:, 1:3] = constant
    labels = (np.nan_to_num(seen[:, 0]) + random.normal(size=300) > 0.2).astype(float)
    learned, booster = boosting("binary", seen, labels, 255)
    np.testing.assert_allclose(booster.predict(asked), staged(learned, asked, "binary"), rtol=0, atol=1e-12)
    card = logistic_regression.learn(LogisticRegression(), seen, labels, (TEXT,))
    scored = lightgbm.Booster(model_str=booster_text(NAMES, "binary", card.trees())).predict(asked)
    np.testing.assert_allclose(scored, card.model.predict_proba(card.indicators(asked))[:, 1], rtol=0, atol=1e-12)


def test_a_scorecards_contribution_of_a_feature_is_its_points_against_their_mean() -> None:
    random = np.random.default_rng(3)
    seen = _values(random, 500, 9, 0.1)
    value = np.nan_to_num(seen[:, 0]) + random.normal(size=len(seen))
    learned = logistic_regression.learn(LogisticRegression(), seen, (value > 0.5).astype(float), (TEXT,))
    booster = lightgbm.Booster(model_str=booster_text(NAMES, "binary", learned.trees()))
    found, begin = booster.predict(seen, pred_contrib=True), 0
    for place, bins in enumerate(learned.bins):
        points = learned.model.coef_[0][begin : begin + bins.number]
        mean = np.average(points, weights=np.maximum(learned.counts[place], 1))
        np.testing.assert_allclose(found[:, place], points[bins.of(seen[:, place])] - mean, atol=1e-12)
        begin += bins.number


def test_the_gains_of_a_scorecard_are_the_variance_of_its_points() -> None:
    seen = _values(np.random.default_rng(4), 500, 9, 0.1)
    labels = (np.nan_to_num(seen[:, 0]) > 0.3).astype(float)
    learned = logistic_regression.learn(LogisticRegression(), seen, labels, (TEXT,))
    booster = lightgbm.Booster(model_str=booster_text(NAMES, "binary", learned.trees()))
    variance = booster.predict(seen, pred_contrib=True)[:, :-1].var(axis=0) * len(seen)
    np.testing.assert_allclose(booster.feature_importance("gain")[:3], variance[:3], rtol=1e-4)


def candidate(task: str = "binary", **algorithms: Any) -> Candidate:
    return train(product(task, algorithms=algorithms), FEATURES, rows(task))


def model_of(found: Candidate) -> ScoringModel:
    return scoring_model([found.model_text, *(found.bounds or ())], found.contract)


def test_the_best_on_validation_by_the_gates_metric_is_the_candidate_and_all_are_recorded() -> None:
    found = candidate(**ALL)
    reached = {each.algorithm: each.metrics["roc_auc"] for each in found.considered}
    assert list(reached) == ["lightgbm", "histogram_boosting", "logistic_regression"]
    assert reached[found.algorithm] == max(reached.values()) == found.metrics["validation_roc_auc"]
    alone = {name: candidate(**{name: spec}) for name, spec in ALL.items()}
    assert {name: each.metrics["validation_roc_auc"] for name, each in alone.items()} == reached
    assert found.model_text == alone[found.algorithm].model_text


def test_less_is_better_takes_the_least() -> None:
    found = candidate("regression", lightgbm={"learning_rate": 0.001}, histogram_boosting={})
    assert found.algorithm == "histogram_boosting"
    assert found.metrics["validation_mae"] == min(each.metrics["mae"] for each in found.considered)


@pytest.mark.parametrize("name", ["histogram_boosting", "logistic_regression"])
def test_the_same_rows_and_seed_give_the_same_file_and_few_rows_the_bits_of_many(name: str) -> None:
    found, again = candidate(**{name: ALL[name]}), candidate(**{name: ALL[name]})
    assert found.model_text == again.model_text
    model, held_out = model_of(found), part_of(rows(), product(), "test")
    matrix = feature_matrix(held_out, found.contract)
    together = model.score_matrix(matrix).score
    assert np.array_equal(
        together, np.concatenate([model.score_matrix(matrix[[row]]).score for row in range(50)] + [together[50:]])
    )
    assert roc_auc_score(held_out[LABEL].to_numpy(), together) > 0.75


def test_an_interval_by_histogram_boosting_has_a_model_for_each_end() -> None:
    wanted = product("regression", algorithms={"histogram_boosting": {}}, objective="quantile")
    wanted = type(wanted).model_validate(
        wanted.model_dump()
        | {"interval": {"lower": 0.1, "upper": 0.9}, "baseline": {"score": 0, "lower": -1, "upper": 1}}
    )
    frame = rows("regression")
    found = train(wanted, FEATURES, frame)
    scores = model_of(found).scores(part_of(frame, wanted, "test"))
    assert scores.interval is not None
    assert (scores.interval[0] <= scores.score).all()
    assert (scores.score <= scores.interval[1]).all()
    assert 0.7 < found.metrics["test_coverage"] < 0.9


@pytest.mark.parametrize("name", ["histogram_boosting", "logistic_regression"])
def test_a_training_part_of_one_class_is_refused(name: str) -> None:
    wanted = product(algorithms={name: {}})
    frame = rows().with_columns((~(rows()["at"] < wanted.training.split.train_until) & rows()[LABEL]).alias(LABEL))
    with pytest.raises(OneClassError, match=r"labels of example for .train., until 2013-01-31, are of one class"):
        train(wanted, FEATURES, frame)


def test_a_regression_that_finds_no_end_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "_MOST_ITERATIONS", 1)
    with pytest.raises(ConvergenceError, match=r"did not converge in 1 steps(.|\n)*l2_regularization"):
        candidate(logistic_regression={})
