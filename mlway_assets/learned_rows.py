"""What a product's champion has learned from: its training set as it was then, cut as was declared then."""

from dataclasses import dataclass

import polars as pl

from configs.products import ModelProduct
from configs.splits import Part
from mlway_assets.compute.population import part_of
from mlway_assets.registry import ModelVersion
from mlway_assets.resources import Platform
from mlway_assets.training_sets import LAYER, as_declared, find_training_set
from serving.scoring import ScoringModel, load_model


@dataclass(frozen=True)
class Learned:
    """A champion, the product as it was declared for it, and the rows of its training set with their `event_day`."""

    champion: ModelVersion
    model: ScoringModel
    product: ModelProduct
    rows: pl.DataFrame

    def part(self, name: Part) -> pl.DataFrame:
        """The rows of one part of the split that the champion was trained with."""
        return part_of(self.rows, self.product, name)


def learned_by_champion(product: ModelProduct, platform: Platform) -> Learned:
    """Raises MissingChampionError, TrainingSetError, MissingVersionError, ModelFileError."""
    champion = platform.registry.require_champion(product.name)
    version = platform.registry.training_set_version(champion)
    recorded = find_training_set(product.name, version, platform)
    declared, _ = as_declared(recorded)
    platform.lake.require_files(LAYER, product.name, version)
    rows = platform.lake.scan(LAYER, product.name, version).collect()
    # A training set holds moments alone, and a day of the lake is not a day of UTC.
    table, request = declared.population.table, list(declared.population.request)
    read = platform.lake.scan("curated", table, recorded.record.inputs[f"curated/{table}"])
    days = read.select("event_day", *request).unique(request, keep="first", maintain_order=True).collect()
    with_days = rows.join(days, on=request, how="left", nulls_equal=True, validate="m:1", maintain_order="left")
    return Learned(champion, load_model(champion.folder, champion.digest), declared, with_days)
