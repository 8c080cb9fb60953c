"""Build a product's training set by Feast's point-in-time join, and say exactly what it was built from."""

from dataclasses import dataclass

import polars as pl

from configs.products import ModelProduct
from feature_repo.services import definitions_hash, service_name
from feature_repo.store import historical_features, open_store
from mlway_assets.compute.population import labelled_rows
from mlway_assets.resources import Platform

LAYER = "training_sets"


@dataclass(frozen=True)
class TrainingSet:
    """A training frame, the Delta versions that it was read from, and the hash of its features' definitions."""

    frame: pl.DataFrame
    versions: dict[str, int]
    definitions_hash: str


def build_training_set(product: ModelProduct, platform: Platform) -> TrainingSet:
    """Every labelled row with its features as known at the horizon."""
    lake, store = platform.lake, open_store(platform.environment)
    table = product.population.table
    version = lake.version("curated", table)
    rows = labelled_rows(product, lake.scan("curated", table, version)).collect()
    job = historical_features(store, rows, service_name(product))
    root = platform.environment.lake.uri.rstrip("/") + "/"
    versions = {path.removeprefix(root): number for path, number in job.versions.items()}
    return TrainingSet(
        job.to_polars(), versions | {f"curated/{table}": version}, definitions_hash(platform.project, product)
    )
