"""The one scoring core: a feature frame and a model to scores. Batch, the endpoint and the gate all call it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from configs.errors import MlwayError

if TYPE_CHECKING:
    import lightgbm

MODEL_FILE = "model.txt"
CONTRACT_FILE = "contract.json"


class ModelFileError(MlwayError):
    """A model's files are missing, or are not those that were registered."""


class MissingFeaturesError(MlwayError):
    """A feature frame lacks columns that the model needs."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"The feature frame lacks {', '.join(missing)}.\nHint: build it from the product's feature groups."
        )


class ModelContract(BaseModel):
    """What a model expects: features in order with their types, and the levels of each text feature."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str
    features: dict[str, str]
    levels: dict[str, list[str]]


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
    """A trained model with its contract. The same rows get the same bits, alone or in a batch, on any thread count."""

    booster: "lightgbm.Booster"
    contract: ModelContract
    digest: str

    def score(self, frame: pl.DataFrame, *, threads: int = 0) -> NDArray[np.float64]:
        """A probability for each row of `frame`; `threads=0` uses every core.

        Raises MissingFeaturesError.
        """
        return self.score_matrix(feature_matrix(frame, self.contract), threads=threads)

    def score_matrix(self, matrix: NDArray[np.float64], *, threads: int = 0) -> NDArray[np.float64]:
        """As `score`, of a matrix that is made already."""
        if not len(matrix):
            return np.empty(0)
        return np.asarray(self.booster.predict(matrix, num_threads=threads), dtype=np.float64)


def write_model(booster_text: str, contract: ModelContract, folder: Path) -> str:
    """Write the model's two files into `folder`; returns their digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_text(booster_text, encoding="utf-8")
    (folder / CONTRACT_FILE).write_text(json.dumps(contract.model_dump(), indent=1), encoding="utf-8")
    return model_digest(folder)


def model_digest(folder: Path) -> str:
    """SHA-256 over the model's two files. Raises ModelFileError."""
    digest = hashlib.sha256()
    for name in (MODEL_FILE, CONTRACT_FILE):
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise ModelFileError(f"{folder / name} cannot be read: {error}\nHint: run `mlway materialize`.") from error
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def load_model(folder: Path, digest: str | None = None) -> ScoringModel:
    """The model in `folder`; with `digest`, only if its files are the registered ones. Raises ModelFileError."""
    import lightgbm

    found = model_digest(folder)
    if digest is not None and found != digest:
        raise ModelFileError(
            f"The files in {folder} have the digest {found[:12]}, the registry says {digest[:12]}.\n"
            "Hint: they were changed after registration; restore them or register the model again."
        )
    contract = ModelContract.model_validate_json((folder / CONTRACT_FILE).read_bytes())
    return ScoringModel(lightgbm.Booster(model_file=str(folder / MODEL_FILE)), contract, found)
