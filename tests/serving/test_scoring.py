"""The scoring core and the model's files, for every task."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest
from scoring_examples import FEATURES, TASKS, frame, write_example

from serving.scoring import (
    BOUND_FILES,
    CONTRACT_FILE,
    MODEL_FILE,
    MOST_SINGLE_ROWS,
    MissingFeaturesError,
    ModelContract,
    ModelFileError,
    ScoringModel,
    feature_matrix,
    load_model,
    model_digest,
    write_model,
)


@pytest.fixture(scope="module", params=TASKS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder: Path) -> ScoringModel:
    return load_model(folder)


@pytest.fixture(scope="module")
def interval_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example("regression with interval", tmp_path_factory.mktemp("interval"))


def columns(model: ScoringModel, data: pl.DataFrame, threads: int = 0) -> np.ndarray:
    """Score, lower and upper of each row, as far as the model has them."""
    found = model.scores(data, threads=threads)
    parts = [part for part in (found.score, found.lower, found.upper) if part is not None]
    return np.stack(parts, axis=1)


def test_a_row_scores_the_same_alone_and_in_a_batch_on_any_thread_count(model: ScoringModel) -> None:
    data = frame(300, seed=1)
    batch = columns(model, data)
    alone = np.concatenate([columns(model, row, threads=1) for row in data.iter_slices(1)])
    few = np.concatenate([columns(model, rows) for rows in data.iter_slices(MOST_SINGLE_ROWS)])
    many = np.concatenate([columns(model, rows) for rows in data.iter_slices(MOST_SINGLE_ROWS + 1)])
    assert np.array_equal(batch, alone)
    assert np.array_equal(batch, few)
    assert np.array_equal(batch, many)
    assert np.array_equal(batch, columns(model, data, threads=1))
    assert np.array_equal(batch[:, 0], model.score(data))


def test_the_scores_are_those_of_lightgbm(model: ScoringModel) -> None:
    data = frame(300, seed=2)
    assert np.array_equal(model.score(data), model.booster.predict(feature_matrix(data, model.contract)))


def test_a_matrix_scores_as_the_frame_it_was_made_from(model: ScoringModel) -> None:
    data = frame(50, seed=3)
    matrix = feature_matrix(data, model.contract)
    assert np.array_equal(model.score_matrix(matrix, 1).score, model.score(data))


def test_missing_values_and_categories_never_seen_are_both_missing_to_the_model(model: ScoringModel) -> None:
    rows = frame(2).with_columns(carrier=pl.Series(["ZZ", None], dtype=pl.String), delay=pl.lit(None, pl.Float64))
    matrix = feature_matrix(rows, model.contract)
    assert np.isnan(matrix[:, [0, 2]]).all()


@pytest.mark.parametrize("rows", [1, MOST_SINGLE_ROWS, 200])
def test_a_category_never_seen_scores_as_a_missing_one_in_every_mode(model: ScoringModel, rows: int) -> None:
    data = frame(rows, seed=4)
    unseen, missing = (data.with_columns(carrier=pl.lit(value, pl.String)) for value in ("ZZ", None))
    assert np.array_equal(columns(model, unseen), columns(model, missing))
    matrices = [feature_matrix(part, model.contract) for part in (unseen, missing)]
    assert np.array_equal(*(model.contributions(matrix) for matrix in matrices))


def test_contributions_of_each_row_sum_to_its_raw_score(model: ScoringModel) -> None:
    matrix = feature_matrix(frame(200, seed=5), model.contract)
    found = model.contributions(matrix)
    assert found.shape == (200, len(FEATURES) + 1)
    raw = model.booster.predict(matrix, raw_score=True)
    assert found.sum(axis=1) == pytest.approx(raw, rel=1e-9, abs=1e-9)
    scores = 1 / (1 + np.exp(-raw)) if model.contract.task == "binary" else raw
    assert model.score_matrix(matrix).score == pytest.approx(scores, rel=1e-9, abs=1e-9)
    assert np.array_equal(found[:1], model.contributions(matrix[:1]))


def test_no_rows_give_no_scores(model: ScoringModel) -> None:
    assert model.score(frame(0)).shape == (0,)
    assert len(columns(model, frame(0))) == 0
    assert model.contributions(feature_matrix(frame(0), model.contract)).shape == (0, len(FEATURES) + 1)


def test_a_missing_feature_is_named(model: ScoringModel) -> None:
    with pytest.raises(MissingFeaturesError, match="lacks flights, carrier, is_late"):
        model.score(frame(1).select("delay"))


def test_the_ends_of_an_interval_never_cross_its_score(interval_folder: Path) -> None:
    """Boosters in the wrong places cross everywhere: the ends hold, and the score is still its booster's."""
    right = load_model(interval_folder)
    assert right.bounds is not None
    lower, upper = right.bounds
    data = frame(500, seed=6)
    matrix = feature_matrix(data, right.contract)
    for center, bounds in ((right.booster, (upper, lower)), (lower, (upper, right.booster))):
        found = ScoringModel(center, right.contract, "", bounds).score_matrix(matrix)
        assert found.lower is not None
        assert found.upper is not None
        assert (found.lower <= found.score).all()
        assert (found.score <= found.upper).all()
        assert np.array_equal(found.score, center.predict(matrix))
        three = np.stack([lower.predict(matrix), right.booster.predict(matrix), upper.predict(matrix)])
        assert np.array_equal(found.lower, three.min(axis=0))
        assert np.array_equal(found.upper, three.max(axis=0))


def append_a_space(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b" ")


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("change", [append_a_space, empty, Path.unlink])
@pytest.mark.parametrize("name", [MODEL_FILE, CONTRACT_FILE, *BOUND_FILES])
def test_files_that_changed_after_registration_are_refused(
    name: str, change: Callable[[Path], None], interval_folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(interval_folder, tmp_path / "copy"))
    digest = load_model(copy).digest
    change(copy / name)
    with pytest.raises(ModelFileError, match=f"changed after registration|{name}"):
        load_model(copy, digest)


def test_bounds_that_changed_places_are_refused(interval_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(interval_folder, tmp_path / "copy"))
    digest = model_digest(copy)
    lower, upper = (copy / name for name in BOUND_FILES)
    lower.rename(tmp_path / "kept")
    upper.rename(lower)
    (tmp_path / "kept").rename(upper)
    with pytest.raises(ModelFileError, match="changed after registration"):
        load_model(copy, digest)


def test_bounds_without_an_interval_are_not_written(interval_folder: Path, tmp_path: Path) -> None:
    contract = load_model(interval_folder).contract
    text = (interval_folder / MODEL_FILE).read_text()
    with pytest.raises(ModelFileError, match="has no bounds, and its contract an interval"):
        write_model(text, contract, tmp_path)
    with pytest.raises(ModelFileError, match="has two bounds, and its contract no interval"):
        write_model(text, contract.model_copy(update={"interval": None}), tmp_path, bounds=(text, text))


def test_files_from_before_there_was_more_than_one_task_load_with_the_digest_of_then(tmp_path: Path) -> None:
    write_example("binary", tmp_path / "now")
    contract = json.loads((tmp_path / "now" / CONTRACT_FILE).read_text())
    then = tmp_path / "then"
    then.mkdir()
    shutil.copyfile(tmp_path / "now" / MODEL_FILE, then / MODEL_FILE)
    kept = {field: contract[field] for field in ("product", "features", "levels")}
    (then / CONTRACT_FILE).write_text(json.dumps(kept, indent=1), encoding="utf-8")
    digest = hashlib.sha256()
    for name in (MODEL_FILE, CONTRACT_FILE):
        content = (then / name).read_bytes()
        digest.update(len(content).to_bytes(8, "big") + content)
    loaded = load_model(then, digest.hexdigest())
    assert (loaded.contract.task, loaded.contract.interval, loaded.bounds) == ("binary", None, None)
    data = frame(20)
    assert np.array_equal(loaded.score(data), load_model(tmp_path / "now").score(data))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model\.txt"):
        load_model(tmp_path / "nowhere")


def test_a_closed_model_says_so(folder: Path) -> None:
    model = load_model(folder)
    model.score(frame(1))
    model.close()
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.score(frame(1))


def test_a_contract_names_tasks_that_there_are() -> None:
    with pytest.raises(ValueError, match="task"):
        ModelContract(product="p", features={}, levels={}, task="clustering")  # type: ignore[arg-type]


def test_the_models_text_holds_every_tree_that_scores(folder: Path) -> None:
    text = (folder / MODEL_FILE).read_text(encoding="utf-8")
    assert lightgbm.Booster(model_str=text).num_trees() == load_model(folder).booster.num_trees() == 40
