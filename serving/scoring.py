"""The one scoring core: a feature frame or matrix and a model to scores. Batch, the endpoint and the gate all call it.

Also a model's files, and that they are the registered ones. How C is called for a few rows is in single_row.py.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from configs.errors import MlwayError
from serving.single_row import SingleRowScorer

if TYPE_CHECKING:
    import lightgbm

MOST_SINGLE_ROWS = 8
"""Up to so many rows the single-row call is the faster one: with 387 trees and 50 features on one core it takes 28 us
for one row where Booster.predict takes 60, and 189 for eight where that takes 222; from a dozen on they are level."""


MODEL_FILE = "model.txt"
CONTRACT_FILE = "contract.json"
BOUND_FILES = ("model_lower.txt", "model_upper.txt")
"""Beside the main booster's file where the contract has an interval."""


class ModelFileError(MlwayError):
    """A model's files are missing, or are not those that were registered."""


class MissingFeaturesError(MlwayError):
    """A feature frame lacks columns that the model needs."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"The feature frame lacks {', '.join(missing)}.\nHint: build it from the product's feature groups."
        )


class ModelContract(BaseModel):
    """What a model expects, and what it gives.

    `features` in order with their types; the `levels` of each text feature; the task; with an `interval`, its lower and
    upper quantile, each of which has a booster of its own. What the file does not say, it said before there was more
    than one task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str
    features: dict[str, str]
    levels: dict[str, list[str]]
    task: Literal["binary", "regression", "ranking"] = "binary"
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scores:
    """The main score of each row, and the ends of its interval where the model has one: lower <= score <= upper.

    Binary: a probability. Regression: a value in the label's unit. Ranking: a number to order by, highest first, which
    means nothing across queries.
    """

    score: NDArray[np.float64]
    lower: NDArray[np.float64] | None = None
    upper: NDArray[np.float64] | None = None

    @property
    def interval(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Both ends, where there are."""
        return None if self.lower is None or self.upper is None else (self.lower, self.upper)


def learn_levels(frame: pl.DataFrame, features: Mapping[str, str]) -> dict[str, list[str]]:
    """The sorted values of each text feature in `frame`: their places are the codes that the model sees."""
    return {
        name: frame[name].drop_nulls().unique().sort().to_list() for name, kind in features.items() if kind == "string"
    }


def feature_matrix(frame: pl.DataFrame, contract: ModelContract) -> NDArray[np.float64]:
    """Rows by features, C-contiguous. Null becomes NaN, and so does a text value that training never saw."""
    missing = [name for name in contract.features if name not in frame.columns]
    if missing:
        raise MissingFeaturesError(missing)
    columns = []
    for name, kind in contract.features.items():
        column = frame[name]
        if kind == "string":
            column = column.cast(pl.Enum(contract.levels[name]), strict=False).to_physical()
        columns.append(column.cast(pl.Float64).fill_null(float("nan")).to_numpy())
    return np.ascontiguousarray(np.column_stack(columns)) if len(frame) else np.empty((0, len(columns)))


@dataclass(frozen=True)
class ScoringModel:
    """A trained model with its contract. The same rows get the same bits, alone or in a batch, on any thread count.

    `booster` gives the main score; `bounds`, where the contract has an interval, its lower and upper end.
    """

    booster: "lightgbm.Booster"
    contract: ModelContract
    digest: str
    bounds: "tuple[lightgbm.Booster, lightgbm.Booster] | None" = None

    def score(self, frame: pl.DataFrame, *, threads: int = 0) -> NDArray[np.float64]:
        """The main score of each row of `frame`, without the interval; `threads=0` uses every core.

        Raises MissingFeaturesError.
        """
        return self._parts[0].predict(feature_matrix(frame, self.contract), threads)

    def scores(self, frame: pl.DataFrame, *, threads: int = 0) -> Scores:
        """The main score of each row of `frame`, with its interval. Raises MissingFeaturesError."""
        return self.score_matrix(feature_matrix(frame, self.contract), threads=threads)

    def score_matrix(self, matrix: NDArray[np.float64], threads: int = 0) -> Scores:
        """As `scores`, of a C-contiguous float64 matrix as `feature_matrix` makes it.

        Each quantile has a booster of its own, and nothing keeps them from crossing in a row that training knew little
        of. So the ends are the least and the greatest of the three values. The score stays what it is: what `score`
        gives, and what the contributions sum to.
        """
        score, *ends = (part.predict(matrix, threads) for part in self._parts)
        if not ends:
            return Scores(score)
        lower, upper = ends
        return Scores(
            score,
            lower=np.minimum(np.minimum(lower, upper), score),
            upper=np.maximum(np.maximum(lower, upper), score),
        )

    def contributions(self, matrix: NDArray[np.float64], threads: int = 1) -> NDArray[np.float64]:
        """What each feature added to the raw main score (SHAP values), and last the bias: rows by features + 1.

        A row sums to the raw score, but for rounding: log odds where the task is binary, else the score itself.
        Lundberg et al.: Consistent Individualized Feature Attribution for Tree Ensembles (2018).
        """
        if not len(matrix):
            return np.empty((0, len(self.contract.features) + 1))
        found = self.booster.predict(matrix, pred_contrib=True, num_threads=threads)
        return np.asarray(found, dtype=np.float64)

    def close(self) -> None:
        """Give the memory of the boosters' single-row calls back now, rather than when the model is collected."""
        for part in self._parts:
            part.single.close()

    @cached_property
    def _parts(self) -> "tuple[_Part, ...]":
        boosters = (self.booster, *(self.bounds or ()))
        return tuple(_Part(booster, SingleRowScorer(booster)) for booster in boosters)


@dataclass(frozen=True)
class _Part:
    """One booster with both ways to its scores. They give the same bits: a test holds one against the other."""

    booster: "lightgbm.Booster"
    single: SingleRowScorer

    def predict(self, matrix: NDArray[np.float64], threads: int) -> NDArray[np.float64]:
        """A score for each row."""
        if len(matrix) <= MOST_SINGLE_ROWS:
            return self.single.score(matrix)
        return np.asarray(self.booster.predict(matrix, num_threads=threads), dtype=np.float64)


def write_model(
    booster_text: str, contract: ModelContract, folder: Path, *, bounds: tuple[str, str] | None = None
) -> str:
    """Write the model's files into `folder`; returns their digest.

    `bounds` are the lower and upper booster's text, where the contract has an interval. Raises ModelFileError.
    """
    if (bounds is None) != (contract.interval is None):
        raise ModelFileError(
            f"The model of {contract.product} has {'no' if bounds is None else 'two'} bounds, and its contract "
            f"{'no' if contract.interval is None else 'an'} interval.\nHint: train it again."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip((MODEL_FILE, *BOUND_FILES), (booster_text, *(bounds or ())), strict=False):
        (folder / name).write_text(text, encoding="utf-8")
    (folder / CONTRACT_FILE).write_text(json.dumps(contract.model_dump(), indent=1), encoding="utf-8")
    return model_digest(folder)


def model_digest(folder: Path) -> str:
    """SHA-256 over all of the model's files. Raises ModelFileError."""
    return _digest(_read_files(folder)[1])


def model_files(folder: Path) -> tuple[str, ...]:
    """The names of the files that make up the model in `folder`, as its contract says. Raises ModelFileError."""
    return tuple(_read_files(folder)[1])


def model_file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each of the model's files. Raises ModelFileError."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(_read_files(folder)[1].items())}


def load_model(folder: Path, digest: str | None = None) -> ScoringModel:
    """The model in `folder`; with `digest`, only if its files are the registered ones. Raises ModelFileError."""
    import lightgbm

    contract, files = _read_files(folder)
    found = _digest(files)
    if digest is not None and found != digest:
        raise ModelFileError(
            f"The files in {folder} have the digest {found[:12]}, the registry says {digest[:12]}.\n"
            "Hint: they were changed after registration; restore them or register the model again."
        )
    # From what was hashed, not from the files again: they may change in between.
    booster, *ends = (
        lightgbm.Booster(model_str=content.decode("utf-8")) for name, content in files.items() if name != CONTRACT_FILE
    )
    return ScoringModel(booster, contract, found, (ends[0], ends[1]) if ends else None)


def _read_files(folder: Path) -> tuple[ModelContract, dict[str, bytes]]:
    """The contract, and the content of every file of the model, in the order in which they are hashed."""
    files = {name: _read(folder / name) for name in (MODEL_FILE, CONTRACT_FILE)}
    try:
        contract = ModelContract.model_validate_json(files[CONTRACT_FILE])
    except ValidationError as error:
        raise ModelFileError(
            f"{folder / CONTRACT_FILE} is not a model's contract: {error.errors(include_url=False)[0]['msg']}.\n"
            "Hint: restore it, or load it with the version of mlway that wrote it."
        ) from error
    names = BOUND_FILES if contract.interval else ()
    return contract, files | {name: _read(folder / name) for name in names}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error}\nHint: run `mlway materialize`.") from error


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for content in files.values():
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
