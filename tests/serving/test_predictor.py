"""From a request's rows to an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from online_support import NOON, STATE

from configs.clock import build_clock
from configs.environments import SystemClock
from configs.features import RequestFeatures
from configs.load import Project, load_project
from configs.products import ModelProduct
from feature_repo.online_layout import OnlineStoreUnavailableError
from serving.online_features import FeatureColumns
from serving.predictor import OnlineReads, Predictor
from serving.scoring import ModelContract, write_model

REQUEST = RequestFeatures.model_validate(
    {"name": "asked", "kind": "request", "description": "Of the request.", "owner": "team:tests"}
    | {"fields": {"flight": "int64"}}
    | {"features": {"flight_twice": {"expression": "flight * 2", "type": "int64", "description": "Twice."}}}
)


class NoTables:
    """What a product without table groups never asks."""

    def read(self, entities: Mapping[str, Sequence[Any]], as_of: datetime) -> FeatureColumns:
        raise AssertionError("nothing is to be read")


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    """A predictor whose product knows the request alone, with two versions in its model store."""
    declared = load_project().products["flight_delay"].model_dump()
    product = ModelProduct.model_validate(declared | {"features": ["asked"], "exclude": []})
    project = replace(Project({}, {}, {}), features={"asked": REQUEST})
    values = np.arange(200.0).reshape(-1, 1)
    for version in (1, 2):
        labels = (values[:, 0] > 100) == (version == 1)
        booster = lightgbm.train({"objective": "binary", "verbosity": -1}, lightgbm.Dataset(values, labels), 20)
        contract = ModelContract(product=product.name, features={"flight_twice": "int64"}, levels={})
        write_model(booster.model_to_string(), contract, tmp_path / product.name / str(version))
    return Predictor(
        project,
        product,
        str(tmp_path),
        OnlineReads((), NoTables(), "none", required=True),
        build_clock(SystemClock(kind="system")),
    )


def test_a_product_without_table_groups_answers_from_the_request_alone(predictor: Predictor) -> None:
    rows = {"flight": [1, 90, 90]}
    assert predictor.predict(rows).model == {"name": "baseline"}
    predictor.use(1, None)
    answer = predictor.predict(rows)
    assert answer.model == {"name": "flight_delay", "version": 1}
    assert answer.missing == [[], [], []]
    assert answer.scores[0].score < 0.5 < answer.scores[1].score == answer.scores[2].score


def test_an_answer_names_the_version_that_gave_it_though_another_one_comes_meanwhile(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor.use(1, None)
    describe = predictor._describe

    def use_two_first(served: Any) -> dict[str, Any]:
        predictor.use(2, None)
        return describe(served)

    monkeypatch.setattr(predictor, "_describe", use_two_first)
    answer = predictor.predict({"flight": [1]})
    assert answer.model["version"] == 1
    assert answer.scores[0].score < 0.5
    assert predictor.description["version"] == 2


class Flickering:
    """A store that answers, or does not."""

    def __init__(self) -> None:
        self.is_there, self.reads = True, 0

    def read(self, entities: Mapping[str, Sequence[Any]], as_of: datetime) -> FeatureColumns:
        self.reads += 1
        if not self.is_there:
            raise OnlineStoreUnavailableError("gone")
        count = len(entities["plate"])
        return FeatureColumns(
            {name: [1] * count for name in STATE.types}, {STATE.name: [0.0] * count}, [[] for _ in range(count)]
        )


def test_without_its_store_a_product_refuses_or_marks_what_it_says_and_asks_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, time = Flickering(), [100.0]
    monkeypatch.setattr("serving.predictor.monotonic", lambda: time[0])
    strict, lenient = (OnlineReads([STATE], store, "redis", required=required) for required in (True, False))
    rows = {"plate": ["A1", "B2"]}
    assert lenient.read(rows, NOON)[1] == ()
    store.is_there = False
    for _ in range(3):
        read, degraded = lenient.read(rows, NOON)
        assert degraded == ("redis",)
        assert set(map(tuple, read.values.values())) == {(None, None)}
        assert read.missing == [[STATE.name]] * 2
        with pytest.raises(OnlineStoreUnavailableError):
            strict.read(rows, NOON)
    assert store.reads == 3, "a store that is gone is not waited for at every request"
    store.is_there = True
    time[0] += 1.5
    assert lenient.read(rows, NOON)[1] == strict.read(rows, NOON)[1] == ()
