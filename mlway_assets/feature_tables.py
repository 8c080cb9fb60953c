"""Compute a feature group's table and what is recorded with each version of it: inputs and statistics."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from configs.errors import MlwayError
from configs.features import StaticFeatures, TableFeatures
from feature_repo.aggregations import feature_values
from feature_repo.expressions import parse
from mlway_assets.compute.feature_statistics import GroupStatistics, feature_statistics
from mlway_assets.lake import Lake

LAYER = "features"
STATISTICS = "mlway.statistics"
"""Name in a commit's metadata of the statistics of the values it wrote: of a features or a training set's table."""
INPUTS = "mlway.inputs"
"""Name in a commit's metadata of the tables it was made from, with their Delta versions."""


class MissingRecordError(MlwayError):
    """A group's table does not say what it was made from."""

    def __init__(self, group: TableFeatures) -> None:
        super().__init__(
            f"No version of {LAYER}/{group.name} says which version of curated/{group.table} it was made from.\n"
            "Hint: run `mlway materialize ingest`."
        )


@dataclass(frozen=True)
class WrittenGroup:
    """A version of a feature group's table."""

    version: int
    rows: int
    statistics: GroupStatistics


def write_group(group: TableFeatures, lake: Lake, now: datetime) -> WrittenGroup:
    """Compute the group from its curated table and replace it, with its statistics as of `now` in the same commit."""
    read = lake.version("curated", group.table)
    table = lake.scan("curated", group.table, read)
    # Together, so that the table is read once.
    values, newest = pl.collect_all([feature_values(group, table), newest_event(group, table, now)])
    statistics = feature_statistics(values, group.types, now, list(group.join_keys)).model_copy(
        update={"newest_event": newest.item()}
    )
    recorded = {STATISTICS: statistics.model_dump(mode="json"), INPUTS: {f"curated/{group.table}": read}}
    return WrittenGroup(lake.replace(LAYER, group.name, values, recorded), len(values), statistics)


def curated_table_of(group: TableFeatures, lake: Lake, version: int | None = None) -> pl.LazyFrame:
    """The curated table as it was when the group's values were computed: the newest ones, or those of that version.

    Raises MissingRecordError, and MissingVersionError where it was removed from the lake since.
    """
    made = lake.newest_recorded(LAYER, group.name, INPUTS, up_to=version)
    if made is None:
        raise MissingRecordError(group)
    return lake.scan("curated", group.table, made.metadata[INPUTS][f"curated/{group.table}"])


def newest_event(group: TableFeatures, table: pl.LazyFrame, now: datetime) -> pl.LazyFrame:
    """One value: when the newest row that counts for the group became known, up to `now`; null for static features."""
    if isinstance(group, StaticFeatures):
        return pl.LazyFrame({group.name: [None]})
    rows = table if group.where is None else table.filter(parse(group.where))
    known = rows.drop_nulls(list(group.join_keys)).filter(pl.col(group.known_at) <= now)
    return known.select(pl.max(group.known_at))
