"""The single-row call: the bits of Booster.predict, whoever calls and however often, and its memory given back."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightgbm
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scoring_examples import FEATURES, TASKS, frame, write_example

from serving.scoring import MODEL_FILE, feature_matrix, load_model
from serving.single_row import SingleRowScorer

VALUES = st.one_of(
    st.floats(width=64, allow_nan=True, allow_infinity=True, allow_subnormal=True),
    st.integers(-3, 60).map(float),
)
MATRICES = st.integers(1, 12).flatmap(lambda rows: arrays(np.float64, (rows, len(FEATURES)), elements=VALUES))


@pytest.fixture(scope="module")
def boosters(tmp_path_factory: pytest.TempPathFactory) -> list[lightgbm.Booster]:
    folders = [write_example(task, tmp_path_factory.mktemp("model")) for task in TASKS]
    return [lightgbm.Booster(model_file=str(folder / MODEL_FILE)) for folder in folders]


@pytest.fixture(scope="module")
def scorers(boosters: list[lightgbm.Booster]) -> list[SingleRowScorer]:
    return [SingleRowScorer(booster) for booster in boosters]


@settings(max_examples=200, deadline=None)
@given(matrix=MATRICES)
def test_any_row_has_the_bits_of_booster_predict(
    matrix: np.ndarray, boosters: list[lightgbm.Booster], scorers: list[SingleRowScorer]
) -> None:
    for booster, scorer in zip(boosters, scorers, strict=True):
        expected = np.asarray(booster.predict(matrix, num_threads=1))
        assert scorer.score(matrix).tobytes() == expected.tobytes()


def test_many_threads_at_once_get_their_own_rows(tmp_path: Path) -> None:
    model = load_model(write_example("regression", tmp_path))
    matrix = feature_matrix(frame(400, seed=7), model.contract)
    expected, scorer = np.asarray(model.booster.predict(matrix)), SingleRowScorer(model.booster)

    def score(number: int) -> bool:
        rows = slice(number % 50 * 8, number % 50 * 8 + 8)
        return np.array_equal(scorer.score(matrix[rows]), expected[rows])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(score, range(2_000)))


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.zeros((2, 4), dtype=np.float32), "float64"),
        (np.zeros((4, 4))[:, ::2], "C order"),
        (np.asfortranarray(np.zeros((4, 4))), "C order"),
        (np.zeros((2, 3)), "must have 4 columns"),
        (np.zeros(4), "must have 4 columns"),
    ],
)
def test_what_c_would_misread_is_refused(matrix: np.ndarray, words: str, scorers: list[SingleRowScorer]) -> None:
    with pytest.raises(ValueError, match=words):
        scorers[0].score(matrix)


def test_the_booster_lives_as_long_as_its_scorer_and_no_longer(tmp_path: Path) -> None:
    model = load_model(write_example("binary", tmp_path))
    row = feature_matrix(frame(1), model.contract)
    booster = lightgbm.Booster(model_file=str(tmp_path / MODEL_FILE))
    scorer, seen = SingleRowScorer(booster), weakref.ref(booster)
    del booster
    gc.collect()
    assert scorer.score(row) == model.booster.predict(row)
    scorer.close()
    scorer.close()
    with pytest.raises(ValueError, match="closed"):
        scorer.score(row)
    del scorer
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("is_closed", [True, False])
def test_scorers_give_their_memory_back(boosters: list[lightgbm.Booster], *, is_closed: bool) -> None:
    def open_and_leave(count: int) -> None:
        for _ in range(count):
            scorer = SingleRowScorer(boosters[0])
            if is_closed:
                scorer.close()

    open_and_leave(500)
    before = psutil.Process().memory_info().rss
    open_and_leave(5_000)
    assert psutil.Process().memory_info().rss - before < 10_000_000
