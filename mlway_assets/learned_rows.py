"""What a product's champion has learned from: its training set as it was then, cut as was declared then."""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from configs.errors import MlwayError
from configs.products import ModelProduct
from configs.splits import Part
from mlway_assets.compute.population import part_of
from mlway_assets.lake import MissingTableError, MissingVersionError
from mlway_assets.registry import ModelVersion, UnknownTrainingSetError
from mlway_assets.resources import Platform
from mlway_assets.training_sets import LAYER, TrainingSetError, TrainingSetVersion, as_declared, find_training_set
from serving.scoring import ScoringModel, load_model


class MissingReferenceError(MlwayError):
    """What a champion has learned from is gone, so that no day can be held against it."""

    def __init__(self, champion: ModelVersion, error: MlwayError) -> None:
        super().__init__(
            f"Version {champion.version} of {champion.product} cannot be watched: what it has learned from is gone. "
            f"{str(error).splitlines()[0]}\n"
            "Hint: endpoints answer as before. A version that is trained anew can be watched: "
            f"`mlway retrain {champion.product} --reason 'the reference is gone'`."
        )


@dataclass(frozen=True)
class Learned:
    """A champion, and the product as it was declared for it. Its model and rows are read when they are first used."""

    champion: ModelVersion
    product: ModelProduct
    recorded: TrainingSetVersion
    platform: Platform

    @cached_property
    def model(self) -> ScoringModel:
        """The champion's model. Raises ModelFileError."""
        return load_model(self.champion.folder, self.champion.digest)

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The rows of its training set, with their `event_day`."""
        lake, population = self.platform.lake, self.product.population
        rows = lake.scan(LAYER, self.product.name, self.recorded.version).collect()
        # A training set holds moments alone, and a day of the lake is not a day of UTC.
        request = list(population.request)
        read = lake.scan("curated", population.table, self.recorded.record.inputs[f"curated/{population.table}"])
        days = read.select("event_day", *request).unique(request, keep="first", maintain_order=True).collect()
        return rows.join(days, on=request, how="left", nulls_equal=True, validate="m:1", maintain_order="left")

    def part(self, name: Part) -> pl.DataFrame:
        """The rows of one part of the split that the champion was trained with."""
        return part_of(self.rows, self.product, name)


def learned_by_champion(product: ModelProduct, platform: Platform) -> Learned:
    """Raises MissingChampionError, MissingReferenceError."""
    champion = platform.registry.require_champion(product.name)
    try:
        recorded = find_training_set(product.name, platform.registry.training_set_version(champion), platform)
        declared, _ = as_declared(recorded)
        platform.lake.require_files(LAYER, product.name, recorded.version)
        table = declared.population.table
        platform.lake.require_files("curated", table, recorded.record.inputs[f"curated/{table}"])
    except (MissingTableError, MissingVersionError, TrainingSetError, UnknownTrainingSetError) as error:
        raise MissingReferenceError(champion, error) from error
    return Learned(champion, declared, recorded, platform)
