"""Training sets: built by Feast's point-in-time join, versioned with all that made them, and built again from that."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
from pydantic import TypeAdapter, ValidationError

from configs.errors import MlwayError
from configs.features import FeatureGroup
from configs.load import Project
from configs.products import ModelProduct
from configs.schema import Frozen
from configs.splits import Split
from feature_repo.former_store import former_store
from feature_repo.services import definitions_hash, service_name
from feature_repo.store import historical_features, open_store
from mlway_assets.compute.feature_statistics import feature_statistics
from mlway_assets.compute.frame_hash import FrameHash, frame_hash
from mlway_assets.compute.population import in_order, labelled_rows, query_over_days
from mlway_assets.feature_tables import INPUTS, STATISTICS
from mlway_assets.lake import Commit
from mlway_assets.registry import git_commit
from mlway_assets.resources import Platform

LAYER = "training_sets"
RECORD = "mlway.training_set"
"""Name in a commit's metadata of the training set's record."""


class TrainingSetError(MlwayError):
    """A training set cannot be built, found or built again."""


class TrainingSetRecord(Frozen):
    """What a version of a training set is and was made from: enough to build it again and to compare.

    Kept in the Delta commit of the version itself: either both are there or neither.
    """

    product: str
    rows: int
    sha256: str
    columns: dict[str, str]
    """SHA-256 of each column."""
    inputs: dict[str, int]
    """Delta version of each table that was read, the population's among them."""
    features: tuple[str, ...]
    """Feature references, `group:feature`, that the feature service held."""
    feature_definitions: str
    """Hash of their definitions."""
    declarations: dict[str, Any]
    """`product` and `groups` as declared: population, horizon, label, and every feature."""
    code_version: str


@dataclass(frozen=True)
class TrainingSet:
    """A training frame, in order, with its record."""

    frame: pl.DataFrame
    record: TrainingSetRecord


@dataclass(frozen=True)
class TrainingSetVersion:
    """A version in the lake."""

    version: int
    written_at: datetime
    record: TrainingSetRecord

    def as_json(self) -> dict[str, Any]:
        """Plain values: version, time, and the record but for the declarations, which are long."""
        record = self.record.model_dump(mode="json", exclude={"declarations"})
        return {"version": self.version, "written_at": self.written_at.isoformat()} | record


@dataclass(frozen=True)
class Rebuilt:
    """A former version built again: the frame, its hash, and the columns whose content differs from the recorded."""

    frame: pl.DataFrame
    sha256: str
    recorded: TrainingSetVersion
    different_columns: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether it is what was recorded, to the last bit."""
        return self.sha256 == self.recorded.record.sha256


def require_product(name: str, platform: Platform) -> str:
    """`name`, where it has been or is a product. Raises TrainingSetError."""
    if name not in platform.project.products and not platform.lake.exists(LAYER, name):
        known = ", ".join(sorted(platform.project.products))
        raise TrainingSetError(
            f"No model product is called {name!r}. Known: {known}.\n"
            f"Hint: a product exists once configs/products/{name}.yaml does."
        )
    return name


def build_training_set(product: ModelProduct, platform: Platform) -> TrainingSet:
    """Every labelled row up to the end of the test part, with its features as known at the horizon.

    The record holds the product with the parts of a training that begins now. Raises TrainingSetError,
    MissingTableError.
    """
    product = product.at(platform.clock.now())
    store, project = open_store(platform.environment), platform.project
    definitions = definitions_hash(project, product)
    if store.get_feature_service(service_name(product)).tags.get("definitions") != definitions:
        raise TrainingSetError(
            f"The feature store holds other definitions of {product.name}'s features than configs/ declares.\n"
            "Hint: run `mlway materialize ingest`, which computes and registers them."
        )
    version = platform.lake.version("curated", product.population.table)
    _require_queries_of_a_day(product, platform.lake.scan("curated", product.population.table, version))
    frame, inputs = joined_rows(product, platform, store, version)
    hashed = frame_hash(frame)
    groups = {name: project.features[name] for name in product.features}
    record = TrainingSetRecord(
        product=product.name,
        rows=len(frame),
        sha256=hashed.sha256,
        columns=hashed.columns,
        inputs=inputs,
        features=tuple(f"{name}:{feature}" for name, group in groups.items() for feature in group.types),
        feature_definitions=definitions,
        declarations={
            "product": product.model_dump(mode="json"),
            "groups": {name: group.model_dump(mode="json") for name, group in groups.items()},
        },
        code_version=git_commit(),
    )
    return TrainingSet(frame, record)


def write_training_set(product: ModelProduct, platform: Platform, built: TrainingSet) -> int:
    """Write it as the next version, with its record and the statistics of its request features. Returns the version."""
    types = {name: kind for group in platform.project.request_groups(product) for name, kind in group.types.items()}
    statistics = feature_statistics(built.frame, types, platform.clock.now())
    recorded = {
        RECORD: built.record.model_dump(mode="json"),
        INPUTS: built.record.inputs,
        STATISTICS: statistics.model_dump(mode="json"),
    }
    return platform.lake.replace(LAYER, product.name, built.frame, recorded)


def training_set_versions(product: str, platform: Platform, limit: int | None = None) -> list[TrainingSetVersion]:
    """The newest `limit` versions of a product's training set, or every one, newest first."""
    commits = platform.lake.commits(LAYER, product, limit)
    return [_version(commit) for commit in commits if RECORD in commit.metadata]


def newest_training_set(product: str, platform: Platform) -> TrainingSetVersion:
    """The newest version. Raises TrainingSetError where there is none."""
    found = training_set_versions(product, platform, limit=8)
    if not found:
        raise TrainingSetError(
            f"{product!r} has no recorded training set.\nHint: run `mlway materialize train`, which builds one."
        )
    return found[0]


def rebuild_training_set(product: str, version: int, platform: Platform) -> Rebuilt:
    """Build a version again: from its inputs at their recorded versions and its declarations as recorded.

    Neither the present configuration nor the feature registry is read. Raises TrainingSetError, MissingVersionError.
    """
    recorded = find_training_set(product, version, platform)
    record = recorded.record
    root, versions = _lake_root(platform), {}
    for name, number in record.inputs.items():
        layer, _, table = name.partition("/")
        platform.lake.require_files(layer, table, number)
        versions[root + name] = number
    former, project = as_declared(recorded)
    with former_store(platform.environment, project, versions) as store:
        frame, _ = joined_rows(former, platform, store, record.inputs[f"curated/{former.population.table}"])
    hashed = frame_hash(frame)
    return Rebuilt(frame, hashed.sha256, recorded, _differences(record, hashed))


def joined_rows(
    product: ModelProduct, platform: Platform, store: Any, version: int
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The training frame, in order, and the versions of the tables it was read from; `version` is the population's."""
    table, root = product.population.table, _lake_root(platform)
    rows = labelled_rows(product, platform.lake.scan("curated", table, version)).collect()
    job = historical_features(store, in_order(rows, product), service_name(product))
    foreign = [path for path in job.versions if not path.startswith(root)]
    if foreign:
        raise TrainingSetError(
            f"The feature registry names {foreign[0]}, which is not in this environment's lake, {root}.\n"
            "Hint: run `mlway materialize ingest`, which registers the tables where they are now."
        )
    inputs = {path.removeprefix(root): number for path, number in job.versions.items()}
    return job.to_polars(), inputs | {f"curated/{table}": version}


def _require_queries_of_a_day(product: ModelProduct, table: pl.LazyFrame) -> None:
    found = query_over_days(product, table)
    if found is not None:
        query, (first, *_, last) = found
        raise TrainingSetError(
            f"A query of {product.name} reaches over days, from {first} to {last}: {query}. Batch predictions, which "
            "are made day by day, would put it in order in parts.\n"
            f"Hint: add `event_day` to `ranking.groups` in products/{product.name}.yaml."
        )


def _lake_root(platform: Platform) -> str:
    return platform.environment.lake.uri.rstrip("/") + "/"


def _version(commit: Commit) -> TrainingSetVersion:
    record = TrainingSetRecord.model_validate(commit.metadata[RECORD])
    return TrainingSetVersion(commit.version, commit.written_at, record)


def find_training_set(product: str, version: int, platform: Platform) -> TrainingSetVersion:
    """A version by its number. Raises TrainingSetError."""
    versions = training_set_versions(product, platform)
    for found in versions:
        if found.version == version:
            return found
    known = ", ".join(str(found.version) for found in reversed(versions)) or "none"
    raise TrainingSetError(
        f"{product!r} has no recorded training set of version {version}. Known: {known}.\n"
        "Hint: `mlway training-sets` lists them."
    )


def recorded_split(found: TrainingSetVersion) -> Split:
    """The parts that a version was made for."""
    return Split.model_validate(found.record.declarations["product"]["training"]["split"])


def as_declared(recorded: TrainingSetVersion) -> tuple[ModelProduct, Project]:
    """The product and its features as they were declared for a version. Raises TrainingSetError."""
    declarations = recorded.record.declarations
    try:
        product = ModelProduct.model_validate(declarations["product"])
        groups = TypeAdapter(dict[str, FeatureGroup]).validate_python(declarations["groups"])
    except ValidationError as error:
        raise TrainingSetError(
            f"Version {recorded.version} of {recorded.record.product}'s training set was declared in a form that this "
            f"version of mlway does not read: {error.errors(include_url=False)[0]['msg']}.\n"
            f"Hint: rebuild it with the code that wrote it, {recorded.record.code_version}."
        ) from error
    return product, Project(sources={}, features=groups, products={product.name: product})


def _differences(record: TrainingSetRecord, hashed: FrameHash) -> tuple[str, ...]:
    names: Sequence[str] = sorted(record.columns.keys() | hashed.columns.keys())
    return tuple(name for name in names if record.columns.get(name) != hashed.columns.get(name))
