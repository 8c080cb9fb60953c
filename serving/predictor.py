"""From a request's rows to an answer: read features, add request features, score. No HTTP and no Ray here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from configs.clock import Clock, build_clock
from configs.environments import Environment
from configs.features import RequestFeatures, TableFeatures
from configs.load import Project
from configs.products import ModelProduct
from feature_repo.column_types import POLARS_TYPES
from feature_repo.online_layout import OnlineStoreUnavailableError, epoch_microseconds
from feature_repo.request_rows import RequestRows
from serving.baseline import baseline_scores
from serving.online_features import FeatureColumns, OnlineFeatures, build_online_features
from serving.online_views import row_count
from serving.score_cache import ScoreCache
from serving.scoring import ModelFileError, Scores, ScoringModel, load_model
from serving.vectors import VectorBuilder

Columns = Mapping[str, Sequence[Any]]
"""Rows of requests: each field's values."""
_SECONDS_UNTIL_ANOTHER_TRY = 1.0


class Score(NamedTuple):
    """What a row was answered: the main score, and the ends of its interval where the model has one."""

    score: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A registered version in memory."""

    version: int
    scoring: ScoringModel
    vectors: VectorBuilder
    cache: ScoreCache[Score]


@dataclass(frozen=True, slots=True)
class Answer:
    """What some rows were answered, and what with."""

    model: dict[str, Any]
    digest: str | None
    at: int
    """Features are as of this moment, in microseconds since 1970."""
    scores: list[Score]
    missing: list[list[str]]
    """For each row the feature views that had nothing to say."""
    features: tuple[str, ...] = ()
    matrix: NDArray[np.float64] | None = None
    """What the model saw: rows by features; None of the baseline."""
    ages: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """Feature view to the seconds since the moment that its values are of."""
    values: Columns | None = None
    """Feature to its values, as they were before they became numbers."""
    degraded: tuple[str, ...] = ()
    """Parts of the platform that were not there to be asked."""
    hits: Sequence[bool] = ()
    """Which rows' scores were remembered."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long the whole batch took, by stage: features, score."""
    scoring: ScoringModel | None = None
    """The model itself, for who wants to know why; None is the baseline."""


class Predictor:
    """One product's predictor: a registered version, or the declared baseline before the first one exists."""

    def __init__(
        self, project: Project, product: ModelProduct, model_store: str, features: "OnlineReads", clock: Clock
    ) -> None:
        self._product = product
        self._fields = {name: POLARS_TYPES[kind] for name, kind in product.population.request.items()}
        self._declared = project.model_features(product)
        self._request = _RequestFeatures(project.request_groups(product), project.table_groups(product), product)
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
        cache: ScoreCache[Score] = ScoreCache(self._product.endpoint.cache_entries)
        self._served = ServedModel(version, model, VectorBuilder(model.contract), cache)

    @property
    def served(self) -> ServedModel | None:
        """The version that answers; None is the baseline."""
        return self._served

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
        served, now = self._served, self._clock.now()
        if served is None:
            return self._baseline(rows, epoch_microseconds(now))
        began = perf_counter()
        read, degraded = self._features.read(rows, now)
        values = {**read.values, **self._request.values(rows, read)}
        matrix = served.vectors.matrix(values)
        has_features = perf_counter()
        scores, hits = served.cache.score(matrix, lambda matrix: _scores(served.scoring, matrix))
        return Answer(
            self._describe(served),
            served.scoring.digest,
            epoch_microseconds(now),
            scores,
            read.missing,
            served.vectors.features,
            matrix,
            read.ages,
            values,
            degraded,
            hits,
            {"features": has_features - began, "score": perf_counter() - has_features},
            served.scoring,
        )

    def _baseline(self, rows: Columns, at: int) -> Answer:
        frame = pl.DataFrame(
            [pl.Series(name, rows[name], dtype=kind) for name, kind in self._fields.items() if name in rows]
        )
        scores = _rows(baseline_scores(self._product, frame))
        return Answer(self._describe(None), None, at, scores, [[] for _ in scores])

    def _describe(self, served: ServedModel | None) -> dict[str, Any]:
        return {"name": self._product.name, "version": served.version} if served else {"name": "baseline"}


class OnlineReads:
    """Reads a product's table features, and does without them where that is declared."""

    def __init__(self, groups: Sequence[TableFeatures], store: OnlineFeatures, kind: str, *, required: bool) -> None:
        """`kind` is what the store is called in answers that lack it; with `required`, there are none."""
        self._groups = groups
        self._join_keys = tuple(dict.fromkeys(key for group in groups for key in group.join_keys))
        self._store, self._kind, self._required = store, kind, required
        self._next_try = 0.0

    def read(self, rows: Columns, now: datetime) -> tuple[FeatureColumns, tuple[str, ...]]:
        """The features of each row, and what of the platform was not there to give them. Raises OnlineStoreError.

        Once the store does not answer it is left alone for a second: who asks meanwhile need not wait for it too.
        """
        if not self._groups:  # the request alone says everything
            return FeatureColumns({}, {}, [[] for _ in range(row_count(rows))]), ()
        gone: OnlineStoreUnavailableError | None = None
        if monotonic() >= self._next_try:
            try:
                return self._store.read({key: rows[key] for key in self._join_keys}, now), ()
            except OnlineStoreUnavailableError as error:
                gone = error
                self._next_try = monotonic() + _SECONDS_UNTIL_ANOTHER_TRY
        if self._required:
            raise gone or OnlineStoreUnavailableError(f"The online store ({self._kind}) did not answer a moment ago.")
        return self._nothing(row_count(rows)), (self._kind,)

    def _nothing(self, count: int) -> FeatureColumns:
        views = [group.name for group in self._groups]
        return FeatureColumns(
            {name: [None] * count for group in self._groups for name in group.types},
            {view: [None] * count for view in views},
            [list(views) for _ in range(count)],
        )


class _RequestFeatures:
    """Computes a product's request features."""

    def __init__(
        self, groups: Sequence[RequestFeatures], tables: Sequence[TableFeatures], product: ModelProduct
    ) -> None:
        known = {name: kind for table in tables for name, kind in table.types.items()} | product.population.request
        self._groups = [
            RequestRows(group, {name: known[name] for name in (*group.fields, *_used(group))}) for group in groups
        ]

    def values(self, rows: Columns, read: FeatureColumns) -> dict[str, list[Any]]:
        """The request features of each row."""
        columns = {**read.values, **rows}
        computed: dict[str, list[Any]] = {}
        for group in self._groups:
            computed |= group.values(columns)
        return computed


def _used(group: RequestFeatures) -> list[str]:
    return [name for names in group.uses.values() for name in names]


def _scores(scoring: ScoringModel, matrix: NDArray[np.float64]) -> list[Score]:
    return _rows(scoring.score_matrix(matrix, threads=1))


def _rows(found: Scores) -> list[Score]:
    if found.lower is None or found.upper is None:
        return [Score(score) for score in found.score.tolist()]
    return list(map(Score, found.score.tolist(), found.lower.tolist(), found.upper.tolist()))


def build_predictor(project: Project, environment: Environment, product: ModelProduct) -> Predictor:
    """The product's predictor in an environment, answering with the baseline until told to use a version."""
    groups = project.table_groups(product)
    store, kind = build_online_features(environment, groups), environment.feature_store.online.kind
    reads = OnlineReads(groups, store, kind, required=product.endpoint.without_online_store == "refuse")
    return Predictor(project, product, environment.model_store, reads, build_clock(environment.clock))
