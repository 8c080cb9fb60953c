"""Compute a feature group's table and what is recorded with each version of it: inputs and statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from configs.errors import MlwayError
from configs.features import EventFeatures, StaticFeatures, TableFeatures
from feature_repo.aggregations import feature_values, values_from
from feature_repo.computation import computation_digest
from feature_repo.expressions import parse
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.compute.feature_statistics import GroupStatistics, feature_statistics
from mlway_assets.lake import Lake, MissingVersionError

LAYER = "features"
STATISTICS = "mlway.statistics"
"""Name in a commit's metadata of the statistics of the values it wrote: of a features or a training set's table."""
INPUTS = "mlway.inputs"
"""Name in a commit's metadata of the tables it was made from, with their Delta versions."""

COMPUTATION = "mlway.computation"
"""Name in a commit's metadata of the digest of the declaration and the code that made it."""


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
    values, newest = _computed(group, lake, table, read, now)
    statistics = feature_statistics(values, group.types, now, list(group.join_keys)).model_copy(
        update={"newest_event": newest.item()}
    )
    recorded = {
        STATISTICS: statistics.model_dump(mode="json"),
        INPUTS: {f"curated/{group.table}": read},
        COMPUTATION: computation_digest(group),
    }
    return WrittenGroup(lake.replace(LAYER, group.name, values, recorded), len(values), statistics)


def _computed(
    group: TableFeatures, lake: Lake, table: pl.LazyFrame, read: int, now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The group's values from all history, and its newest event. What did not change since they were last computed is
    kept, to the last bit what would be computed again.
    """
    newest = newest_event(group, table, now)
    first = None if isinstance(group, StaticFeatures) else _first_change(group, lake, read)
    if first is None or isinstance(group, StaticFeatures):
        # Together, so that the table is read once.
        values, event = pl.collect_all([feature_values(group, table), newest])
        return values, event
    before = (
        lake.scan(LAYER, group.name).filter(pl.col(EVENT_TIMESTAMP) < first).sort(EVENT_TIMESTAMP, *group.join_keys)
    )
    kept, new, event = pl.collect_all([before, values_from(group, table, first), newest])
    return pl.concat([kept, new]), event


def _first_change(group: EventFeatures, lake: Lake, read: int) -> datetime | None:
    """The first moment at which values may differ from those of the table; None where that is not known.

    It is known where the table was computed by the same code from a version of the curated table that is still there.
    """
    made = lake.newest_recorded(LAYER, group.name, INPUTS)
    is_same = made is not None and made.metadata.get(COMPUTATION) == computation_digest(group)
    if made is None or not is_same or group.event_key or made.version != lake.version(LAYER, group.name):
        return None
    former = made.metadata[INPUTS][f"curated/{group.table}"]
    try:
        days = lake.changed_days("curated", group.table, former, read)
        if not days:
            return None
        rows = [lake.scan_days("curated", group.table, days, version=version) for version in (former, read)]
        return min(filter(None, (found.item() for found in pl.collect_all(_first_known(group, rows)))), default=None)
    except (MissingVersionError, FileNotFoundError):  # a vacuum has removed the former version
        return None


def _first_known(group: EventFeatures, rows: Sequence[pl.LazyFrame]) -> list[pl.LazyFrame]:
    return [each.select(pl.min(group.known_at)) for each in rows]


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
