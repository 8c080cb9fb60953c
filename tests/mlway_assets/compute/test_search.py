"""The search for parameters: its folds, its choices, what it leaves out, and that it is the same each time."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from training_examples import FEATURES, FIRST, SPACE, product, rows

from configs.environments import Trials
from configs.products import ModelProduct
from configs.search import Search
from mlway_assets.compute.boosting import UnknownParameterError
from mlway_assets.compute.population import LABEL, part_of
from mlway_assets.compute.search import (
    Outcome,
    SearchError,
    Study,
    Try,
    evaluate_try,
    fold_splits,
    run_search,
    search_rows,
)
from mlway_assets.compute.search_plots import history_plot
from mlway_assets.compute.training import train
from mlway_assets.trials import search_parameters

FOLDS = {"number": 3, "validate_days": 5}
SERIAL = Trials(workers=1)


def searched(**search: Any) -> tuple[ModelProduct, Search]:
    found = product(search={"trials": 6, "space": SPACE, "folds": FOLDS} | search)
    assert found.training.search is not None
    return found, found.training.search


def study_of(place: Trials = SERIAL, frame: pl.DataFrame | None = None, **search: Any) -> Study:
    wanted, declared = searched(**search)
    return search_parameters(wanted, FEATURES, declared, rows() if frame is None else frame, place)


def test_each_fold_is_validated_on_the_days_that_follow_it_and_ends_within_the_training_part() -> None:
    wanted, search = searched()
    frame = search_rows(wanted, search, rows())
    cuts = [FIRST + timedelta(days=day) for day in (15, 20, 25)]
    for split, cut in zip(fold_splits(wanted, search), cuts, strict=True):
        folded = wanted.with_split(split)
        learned, held_out = part_of(frame, folded, "train"), part_of(frame, folded, "validate")
        assert learned["at"].min() == FIRST
        assert learned["at"].max() < cut <= held_out["at"].min()
        assert learned["label_known_at"].max() <= cut
        assert held_out["at"].max() < cut + timedelta(days=5)
        assert held_out["label_known_at"].max() <= cut + timedelta(days=5) <= wanted.training.split.train_until


def test_validation_and_test_part_are_not_touched() -> None:
    frame = rows()
    is_later = pl.col("at") >= FIRST + timedelta(days=30)
    other = frame.with_columns(pl.when(is_later).then(~pl.col(LABEL)).otherwise(LABEL).alias(LABEL))
    assert study_of(frame=frame) == study_of(frame=other)


def test_labels_that_became_known_after_a_cut_off_change_nothing_of_its_fold() -> None:
    wanted, search = searched()
    frame, cut = rows(), FIRST + timedelta(days=15)
    is_late = (pl.col("at") < cut) & (pl.col("label_known_at") > cut)
    other = frame.with_columns(pl.when(is_late).then(~pl.col(LABEL)).otherwise(LABEL).alias(LABEL))
    assert not frame.equals(other)
    first = Try(0, wanted.training.algorithms.lightgbm or {})
    found = [
        evaluate_try(wanted, FEATURES, search, search_rows(wanted, search, each), first) for each in (frame, other)
    ]
    assert found[0] == found[1]


def test_the_declared_parameters_are_tried_first_and_the_best_is_at_least_as_good() -> None:
    wanted, _ = searched()
    study = study_of()
    declared = dict(wanted.training.algorithms.lightgbm or {})
    assert {name: study.trials[0].parameters[name] for name in declared} == declared
    assert study.best.value >= study.trials[0].value
    assert study.best.value == max(trial.value for trial in study.complete)


def test_every_choice_lies_in_the_declared_space() -> None:
    _, search = searched()
    for trial in study_of().trials:
        assert all(values.holds(trial.parameters[name]) for name, values in search.space.items())
        assert trial.parameters["min_data_in_leaf"] == 5


def test_trials_in_processes_make_the_same_study_and_the_same_model_as_trials_one_by_one() -> None:
    frame, studies = rows(), [study_of(), study_of(Trials(workers=2))]
    assert studies[0] == studies[1]
    wanted, _ = searched()
    found = [train(wanted.with_parameters(study.best.parameters), FEATURES, frame) for study in studies]
    assert found[0].model_text == found[1].model_text


def test_the_order_in_which_tries_are_evaluated_changes_nothing() -> None:
    wanted, search = searched(trials=8)
    frame = search_rows(wanted, search, rows())

    def backwards(tries: Sequence[Try]) -> list[Outcome]:
        return [evaluate_try(wanted, FEATURES, search, frame, each) for each in reversed(tries)][::-1]

    assert run_search(wanted, search, backwards) == study_of(trials=8)


def test_another_seed_tries_others() -> None:
    wanted, search = searched()
    frame, other = rows(), product(search=search.model_dump(), seed=8)
    studies = [search_parameters(each, FEATURES, search, frame, SERIAL) for each in (wanted, other)]
    assert studies[0].trials[1].parameters != studies[1].trials[1].parameters


def told(values: dict[int, Sequence[float]], **search: Any) -> Study:
    """A study whose trials reach `values` by trial and fold: what is tried is known by the order of the rounds."""
    wanted, declared = searched(trials_at_once=1, trials=len(values), **search)
    seen: list[dict[str, Any]] = []

    def evaluate(tries: Sequence[Try]) -> list[Outcome]:
        [only] = tries
        if only.fold == 0:
            seen.append(dict(only.parameters))
        return [Outcome(values[len(seen) - 1][only.fold], 1)]

    return run_search(wanted, declared, evaluate)


def test_a_trial_below_the_median_of_those_before_it_is_pruned_between_folds() -> None:
    values = {0: (0.7, 0.7, 0.7), 1: (0.8, 0.8, 0.8), 2: (0.6, 0.9, 0.9), 3: (0.76, 0.7, 0.9)}
    study = told(values, pruning={"first_trials": 2, "first_folds": 1})
    assert [(trial.state, len(trial.values)) for trial in study.trials] == [
        ("complete", 3),
        ("complete", 3),
        ("pruned", 1),
        ("complete", 3),
    ]
    assert study.best.number == 1


def test_nothing_is_pruned_where_the_file_says_so() -> None:
    values = {0: (0.7, 0.7, 0.7), 1: (0.8, 0.8, 0.8), 2: (0.6, 0.9, 0.9)}
    assert told(values, pruning=None).count("complete") == 3


def test_parameters_that_lightgbm_refuses_fail_alone_and_say_why() -> None:
    space = {"bagging_fraction": {"kind": "choice", "values": [0.5, 5.0]}}
    study = study_of(space=space, trials=8)
    failed = [trial for trial in study.trials if trial.state == "failed"]
    assert {trial.parameters["bagging_fraction"] for trial in failed} == {5.0}
    assert all("bagging_fraction" in trial.problem for trial in failed)
    assert study.best.parameters["bagging_fraction"] == 0.5
    assert len(history_plot(study).axes[0].collections) == 2


def test_a_search_in_which_every_trial_failed_says_so_with_the_reason() -> None:
    space = {"bagging_fraction": {"kind": "float", "low": 2, "high": 5}}
    with pytest.raises(SearchError, match=r"None of the 3 trials of example.*bagging_fraction(.|\n)*Hint: "):
        study_of(space=space, trials=3)


def test_folds_that_reach_back_behind_the_first_day_are_refused() -> None:
    with pytest.raises(SearchError, match=r"Fold 1 of the search of example, cut at 2012-12-27, has no rows to learn"):
        study_of(folds={"number": 7, "validate_days": 5})


def test_a_fold_of_one_class_is_named() -> None:
    frame = rows().with_columns(
        pl.when(pl.col("at") < FIRST + timedelta(days=22)).then(LABEL).otherwise(True).alias(LABEL)
    )
    with pytest.raises(SearchError, match=r"Fold 3 of the search of example: All .* labels.* are of one class"):
        study_of(frame=frame)


def test_a_search_of_less_is_better_takes_the_least() -> None:
    wanted = product("regression", search={"trials": 4, "space": SPACE, "folds": FOLDS})
    assert wanted.training.search is not None
    study = search_parameters(wanted, FEATURES, wanted.training.search, rows("regression"), SERIAL)
    assert study.metric == "mae"
    assert study.best.value == min(trial.value for trial in study.complete)


def test_a_parameter_that_lightgbm_does_not_have_is_named_before_anything_is_tried() -> None:
    with pytest.raises(UnknownParameterError, match=r"no parameter 'num_leafs'. Did you mean num_leaves(.|\n)*Hint: "):
        study_of(space={"num_leafs": SPACE["num_leaves"]})
    with pytest.raises(UnknownParameterError, match="no parameter 'learn_rate'"):
        train(product(algorithms={"lightgbm": {"learn_rate": 0.1}}), FEATURES, rows())
