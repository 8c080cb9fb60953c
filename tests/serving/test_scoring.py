"""The scoring core and the model's files."""

from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest

from serving.scoring import (
    CONTRACT_FILE,
    MissingFeaturesError,
    ModelContract,
    ModelFileError,
    ScoringModel,
    feature_matrix,
    learn_levels,
    load_model,
    write_model,
)

FEATURES = {"delay": "float64", "flights": "int64", "carrier": "string"}


def frame(rows: int, seed: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "delay": random.normal(size=rows),
            "flights": random.integers(0, 50, rows),
            "carrier": random.choice(["AA", "B6", "UA"], rows),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = frame(2000)
    contract = ModelContract(product="p", features=FEATURES, levels=learn_levels(data, FEATURES))
    labels = (data["delay"] + (data["carrier"] == "B6").cast(pl.Float64) > 0.5).cast(pl.Float64).to_numpy()
    fit = lightgbm.Dataset(feature_matrix(data, contract), labels, categorical_feature=[2])
    booster = lightgbm.train({"objective": "binary", "verbosity": -1}, fit, 40)
    path = tmp_path_factory.mktemp("model")
    write_model(booster.model_to_string(), contract, path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> ScoringModel:
    return load_model(folder)


def test_a_row_scores_the_same_alone_and_in_a_batch_on_any_thread_count(model: ScoringModel) -> None:
    data = frame(300, seed=1)
    batch = model.score(data)
    alone = np.array([model.score(data[i : i + 1], threads=1)[0] for i in range(len(data))])
    assert np.array_equal(batch, alone)
    assert np.array_equal(batch, model.score(data, threads=1))


def test_missing_values_and_categories_never_seen_are_both_missing_to_the_model(model: ScoringModel) -> None:
    rows = frame(2).with_columns(carrier=pl.Series(["ZZ", None], dtype=pl.String), delay=pl.lit(None, pl.Float64))
    matrix = feature_matrix(rows, model.contract)
    assert np.isnan(matrix[:, [0, 2]]).all()


def test_no_rows_give_no_scores(model: ScoringModel) -> None:
    assert model.score(frame(0)).shape == (0,)


def test_a_missing_feature_is_named(model: ScoringModel) -> None:
    with pytest.raises(MissingFeaturesError, match="lacks flights, carrier"):
        model.score(frame(1).select("delay"))


def test_files_that_changed_after_registration_are_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    digest = load_model(tmp_path).digest
    with (tmp_path / CONTRACT_FILE).open("a") as file:
        file.write(" ")
    with pytest.raises(ModelFileError, match="changed after registration"):
        load_model(tmp_path, digest)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model\.txt"):
        load_model(tmp_path / "nowhere")
