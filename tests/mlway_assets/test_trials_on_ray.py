"""Trials as tasks of a Ray cluster, which a test starts on this machine."""

from collections.abc import Iterator

import pytest
from training_examples import FEATURES, SPACE, product, rows

from configs.environments import Trials
from mlway_assets.compute.search import Study
from mlway_assets.trials import search_parameters


@pytest.fixture
def cluster() -> Iterator[Trials]:
    import ray

    yield Trials(execution="ray", ray_address="local")
    ray.shutdown()


def study_in(place: Trials) -> Study:
    wanted = product(search={"trials": 5, "space": SPACE, "folds": {"number": 2, "validate_days": 5}})
    assert wanted.training.search is not None
    return search_parameters(wanted, FEATURES, wanted.training.search, rows(), place)


def test_trials_on_a_ray_cluster_make_the_same_study_as_trials_one_by_one(cluster: Trials) -> None:
    assert study_in(cluster) == study_in(Trials(workers=1))
