"""From a request's rows to an answer: read features, add request features, score. No HTTP and no Ray here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from configs.clock import Clock, build_clock
from configs.environments import Environment
from configs.features import RequestFeatures, TableFeatures
from configs.load import Project
from configs.products import ModelProduct
from feature_repo.column_types import POLARS_TYPES
from feature_repo.online_layout import epoch_microseconds
from feature_repo.request_features import request_features
from serving.online_features import FeatureColumns, OnlineFeatures, build_online_features
from serving.scoring import ModelFileError, ScoringModel, load_model
from serving.vectors import VectorBuilder

Columns = Mapping[str, Sequence[Any]]
"""Rows of requests: each field's values."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A registered version in memory."""

    version: int
    scoring: ScoringModel
    vectors: VectorBuilder


@dataclass(frozen=True, slots=True)
class Answer:
    """What some rows were answered, and what with."""

    model: dict[str, Any]
    digest: str | None
    at: int
    """Features are as of this moment, in microseconds since 1970."""
    scores: list[float]
    features: tuple[str, ...]
    matrix: NDArray[np.float64]
    """What the model saw: rows by features."""
    ages: dict[str, list[float | None]]
    """Feature view to the seconds since the moment that its values are of."""
    missing: list[list[str]]
    """For each row the feature views that had nothing to say."""

    def part(self, start: int, end: int) -> "Answer":
        """The answer to some of the rows."""
        return Answer(
            self.model,
            self.digest,
            self.at,
            self.scores[start:end],
            self.features,
            self.matrix[start:end],
            {view: ages[start:end] for view, ages in self.ages.items()},
            self.missing[start:end],
        )


class Predictor:
    """One product's predictor: a registered version, or the declared baseline before the first one exists."""

    def __init__(
        self, project: Project, product: ModelProduct, model_store: str, features: OnlineFeatures, clock: Clock
    ) -> None:
        self._product = product
        self._table_groups = project.table_groups(product)
        self._declared = project.model_features(product)
        self._request = _RequestFeatures(project.request_groups(product), self._table_groups, product)
        self._join_keys = tuple(dict.fromkeys(key for group in self._table_groups for key in group.join_keys))
        self._model_store = model_store
        self._features = features
        self._clock = clock
        # One object, replaced as a whole, so that no answer names another version than the one that gave it.
        self._served: ServedModel | None = None

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
        self._served = ServedModel(version, model, VectorBuilder(model.contract))

    @property
    def description(self) -> dict[str, Any]:
        """Which model answers."""
        return self._describe(self._served)

    @property
    def digest(self) -> str | None:
        """SHA-256 of the model's files."""
        served = self._served
        return served.scoring.digest if served else None

    def predict(self, rows: Columns) -> Answer:
        """A score for each row, which are at least one. Raises OnlineStoreError."""
        served = self._served
        count = len(next(iter(rows.values())))
        now = self._clock.now()
        at = epoch_microseconds(now)
        if served is None:
            scores = [self._product.baseline.score] * count
            return Answer(
                self._describe(None), None, at, scores, (), np.empty((count, 0)), {}, [[] for _ in range(count)]
            )
        if self._table_groups:
            read = self._features.read({key: rows[key] for key in self._join_keys}, now)
        else:  # the request alone says everything
            read = FeatureColumns({}, {}, [[] for _ in range(count)])
        matrix = served.vectors.matrix({**read.values, **self._request.values(rows, read)})
        return Answer(
            self._describe(served),
            served.scoring.digest,
            at,
            served.scoring.score_matrix(matrix, threads=1).tolist(),
            served.vectors.features,
            matrix,
            read.ages,
            read.missing,
        )

    def _describe(self, served: ServedModel | None) -> dict[str, Any]:
        return {"name": self._product.name, "version": served.version} if served else {"name": "baseline"}


class _RequestFeatures:
    """Computes a product's request features, from a frame of just the columns that they use."""

    def __init__(
        self, groups: Sequence[RequestFeatures], tables: Sequence[TableFeatures], product: ModelProduct
    ) -> None:
        self._groups = groups
        used = {name for group in groups for names in group.uses.values() for name in names}
        kinds = product.population.request
        self._fields = {name: POLARS_TYPES[kinds[name]] for group in groups for name in group.fields}
        self._used = {
            name: POLARS_TYPES[kind] for group in tables for name, kind in group.types.items() if name in used
        }

    def values(self, rows: Columns, read: FeatureColumns) -> dict[str, list[Any]]:
        """The request features of each row."""
        columns = [pl.Series(name, rows[name], dtype=kind) for name, kind in self._fields.items()]
        columns += [pl.Series(name, read.values[name], dtype=kind) for name, kind in self._used.items()]
        frame = pl.DataFrame(columns)
        computed: dict[str, list[Any]] = {}
        for group in self._groups:
            computed |= request_features(group, frame).to_dict(as_series=False)
        return computed


def build_predictor(project: Project, environment: Environment, product: ModelProduct) -> Predictor:
    """The product's predictor in an environment, answering with the baseline until told to use a version."""
    features = build_online_features(environment, project.table_groups(product))
    return Predictor(project, product, environment.model_store, features, build_clock(environment.clock))
