"""From a request's rows to an answer: read features, add request features, score. No HTTP and no Ray here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from configs.clock import Clock, build_clock
from configs.environments import Environment
from configs.load import Project
from configs.products import ModelProduct
from feature_repo.request_features import with_request_features
from serving.online_features import (
    FeatureColumns,
    OnlineFeatures,
    build_online_features,
    join_key_columns,
    with_features,
)
from serving.scoring import ModelFileError, ScoringModel, load_model


@dataclass(frozen=True)
class Answer:
    """A score for each row, what each row lacked, and the model that gave them."""

    model: dict[str, Any]
    scores: list[float]
    missing: list[list[str]]


class Predictor:
    """One product's predictor: a registered version, or the declared baseline before the first one exists."""

    def __init__(
        self, project: Project, product: ModelProduct, model_store: str, features: OnlineFeatures, clock: Clock
    ) -> None:
        self._product = product
        self._table_groups = project.table_groups(product)
        self._request_groups = project.request_groups(product)
        self._declared = project.model_features(product)
        self._model_store = model_store
        self._features = features
        self._clock = clock
        # One object, replaced as a whole, so that no answer names another version than the one that gave it.
        self._served: tuple[int, ScoringModel] | None = None

    def use(self, version: int | None, digest: str | None) -> None:
        """Answer with this registered version from now on; None is the baseline. When it raises, nothing has changed.

        Raises ModelFileError.
        """
        if version is None:
            self._served = None
            return
        model = load_model(Path(self._model_store) / self._product.name / str(version), digest)
        gone = sorted(set(model.contract.features.items()) - set(self._declared.items()))
        if gone:
            raise ModelFileError(
                f"Version {version} of {self._product.name} needs {', '.join(name for name, _ in gone)}, "
                "which configs/ no longer declares so.\nHint: restore the feature, or train again."
            )
        self._served = version, model

    @property
    def description(self) -> dict[str, Any]:
        """Which model answers."""
        return self._describe(self._served)

    @property
    def digest(self) -> str | None:
        """SHA-256 of the model's files."""
        served = self._served
        return served[1].digest if served else None

    def predict(self, rows: pl.DataFrame) -> Answer:
        """A score for each row. Raises OnlineStoreError."""
        served = self._served
        if served is None:
            scores = [self._product.baseline.score] * len(rows)
            return Answer(self._describe(None), scores, [[] for _ in range(len(rows))])
        read = self._read(rows)
        frame = with_request_features(self._request_groups, with_features(rows, self._table_groups, read))
        return Answer(self._describe(served), served[1].score(frame, threads=1).tolist(), read.missing)

    def _describe(self, served: tuple[int, ScoringModel] | None) -> dict[str, Any]:
        return {"name": self._product.name, "version": served[0]} if served else {"name": "baseline"}

    def _read(self, rows: pl.DataFrame) -> FeatureColumns:
        if not self._table_groups:  # the request alone says everything
            return FeatureColumns({}, {}, [[] for _ in range(len(rows))])
        return self._features.read(join_key_columns(rows, self._table_groups), self._clock.now())


def build_predictor(project: Project, environment: Environment, product: ModelProduct) -> Predictor:
    """The product's predictor in an environment, answering with the baseline until told to use a version."""
    features = build_online_features(environment, project.table_groups(product))
    return Predictor(project, product, environment.model_store, features, build_clock(environment.clock))
