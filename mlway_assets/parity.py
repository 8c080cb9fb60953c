"""Hold the ways to a feature's value against each other, bit for bit, on a sample of entities or of rows.

History (the offline store, as of now), the online store (as serving reads it), and micro-batches (the stream's way,
held against the values table over some days). Also each value's ttl: alive at its edge, gone a microsecond later, in
both stores. The ways to request features are in request_parity.py.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from configs.features import (
    EventFeatures,
    FeatureGroup,
    RequestFeatures,
    StaticFeatures,
    TableFeatures,
    WindowedFeatures,
)
from feature_repo.aggregations import feature_values
from feature_repo.incremental import Changes, State, advance, merged
from feature_repo.point_in_time import TIMESTAMP_SUFFIX, View, point_in_time_join
from feature_repo.store import open_store
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.compute.differences import Compared, Difference, differences, typed
from mlway_assets.feature_tables import LAYER as FEATURES
from mlway_assets.feature_tables import curated_table_of
from mlway_assets.request_parity import PATH as REQUEST_ROWS
from mlway_assets.request_parity import compare_request_rows
from mlway_assets.resources import Platform
from serving.online_features import OnlineFeatures, build_online_features, join_key_columns

if TYPE_CHECKING:
    from feast import FeatureStore

ENTITIES = 40
EDGES = 8
SPAN = timedelta(days=2)
BATCHES = 3
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class ParityReport:
    """How many values were compared, by way, and those that differ."""

    compared: dict[str, int]
    differences: tuple[Difference, ...]

    @property
    def is_equal(self) -> bool:
        """Whether every value agrees, and there were some."""
        return not self.differences and sum(self.compared.values()) > 0


def compare_paths(groups: Sequence[FeatureGroup], platform: Platform, entities: int = ENTITIES) -> ParityReport:
    """Compare the groups' values as of now, for a sample that differs from moment to moment.

    Groups read from tables for some entities; request features for some rows of their products' populations.
    """
    now, store = platform.clock.now(), open_store(platform.environment)
    dice = random.Random(int(now.timestamp()))  # noqa: S311 - a sample, not a secret
    compared: dict[str, int] = {}
    found: list[Difference] = []
    for group in groups:
        if isinstance(group, RequestFeatures):
            checks = {REQUEST_ROWS: compare_request_rows(group, store, platform, dice.randrange(2**31))}
        else:
            checks = _compare_table_group(group, store, platform, entities, dice)
        for path, (count, differing) in checks.items():
            compared[path] = compared.get(path, 0) + count
            found += differing
    return ParityReport(compared, tuple(found))


def _compare_table_group(
    group: TableFeatures, store: "FeatureStore", platform: Platform, entities: int, dice: random.Random
) -> dict[str, Compared]:
    now = platform.clock.now()
    values = platform.lake.scan(FEATURES, group.name).filter(pl.col(EVENT_TIMESTAMP) <= now)
    sample = _sample(group, values, entities, dice)
    offline = _offline(store, group, sample, now)
    reader = build_online_features(platform.environment, [group])
    return {
        "online": _online(group, reader, sample, offline, now),
        "ttl edge": _at_the_edges(group, reader, offline),
        "micro-batches": _incremental(group, platform, values, sample, now, dice),
    }


def _sample(group: TableFeatures, values: pl.LazyFrame, entities: int, dice: random.Random) -> pl.DataFrame:
    """Some entities: half of them the last to change, the others any; and one that no table knows."""
    keys = list(group.join_keys)
    newest = values.group_by(keys).agg(pl.max(EVENT_TIMESTAMP)).sort(EVENT_TIMESTAMP, *keys).collect()
    recent = newest.tail(entities // 2)
    others = newest.head(len(newest) - len(recent))
    some = others.sample(min(len(others), entities - len(recent)), seed=dice.randrange(2**31))
    unknown = pl.DataFrame({key: ["?" if kind == "string" else -1] for key, kind in group.join_keys.items()})
    known = pl.concat([recent, some]).select(keys)
    return pl.concat([known, unknown.cast(known.schema)])


def _offline(store: "FeatureStore", group: TableFeatures, sample: pl.DataFrame, now: datetime) -> pl.DataFrame:
    rows = sample.with_columns(pl.lit(now, pl.Datetime("us", "UTC")).alias(EVENT_TIMESTAMP))
    references = [f"{group.name}:{name}" for name in group.types]
    job: Any = store.get_historical_features(entity_df=rows, features=references)
    joined: pl.DataFrame = job.to_polars(with_timestamps=True)
    return joined


def _online(
    group: TableFeatures, reader: OnlineFeatures, sample: pl.DataFrame, offline: pl.DataFrame, now: datetime
) -> Compared:
    read = reader.read(join_key_columns(sample, [group]), now)
    columns = {name: typed(read.values[name], kind) for name, kind in group.types.items()}
    moments = offline[group.name + TIMESTAMP_SUFFIX]
    ages = [None if moment is None else (now - moment).total_seconds() for moment in moments]
    columns["age"] = pl.Series(read.ages[group.name], dtype=pl.Float64)
    expected = offline.with_columns(pl.Series("age", ages, dtype=pl.Float64))
    return differences("online", group, sample, expected, pl.DataFrame(columns))


def _at_the_edges(group: TableFeatures, reader: OnlineFeatures, offline: pl.DataFrame) -> Compared:
    """The newest values at the last moment of their life and right after it, in both stores."""
    if not group.time_to_live:
        return 0, []
    column, keys = group.name + TIMESTAMP_SUFFIX, list(group.join_keys)
    stored = offline.drop_nulls(column).select(*keys, column)
    view = View(stored.lazy(), keys, [], column, None, group.time_to_live)
    count = 0
    found: list[Difference] = []
    for row in stored.head(EDGES).iter_rows(named=True):
        edge = row[column] + group.time_to_live
        for moment in (edge, edge + _MICROSECOND):
            asked = pl.DataFrame({key: [row[key]] for key in keys}, schema=stored.select(keys).schema)
            rows = asked.with_columns(pl.lit(moment, pl.Datetime("us", "UTC")).alias(EVENT_TIMESTAMP))
            is_there = point_in_time_join(rows, EVENT_TIMESTAMP, [view])[column].is_not_null()
            seen = [not missing for missing in reader.read(join_key_columns(asked, [group]), moment).missing]
            expected = asked.with_columns(is_there.alias("is_there"))
            one, differs = differences("ttl edge", group, asked, expected, pl.DataFrame({"is_there": seen}))
            count, found = count + one, found + differs
    return count, found


def _incremental(
    group: TableFeatures,
    platform: Platform,
    values: pl.LazyFrame,
    sample: pl.DataFrame,
    now: datetime,
    dice: random.Random,
) -> Compared:
    """The values table's rows of the last days against those that micro-batches give; static ones against the table."""
    table = curated_table_of(group, platform.lake).join(sample.lazy(), on=sample.columns, how="semi")
    if isinstance(group, StaticFeatures):
        expected = values.join(sample.lazy(), on=sample.columns, how="semi").collect()
        return _tables("micro-batches", group, expected, feature_values(group, table).collect())
    last = table.filter(pl.col(group.known_at) <= now).select(pl.max(group.known_at)).collect().item()
    if last is None:
        return 0, []
    first = last - SPAN
    seen = merged(_in_batches(group, _events(group, table, first, last), last, dice))
    inside = pl.col(EVENT_TIMESTAMP).is_between(first, last, closed="right")
    expected = values.filter(inside).join(sample.lazy(), on=sample.columns, how="semi").collect()
    return _tables("micro-batches", group, expected, seen.filter(inside))


def _events(group: EventFeatures, table: pl.LazyFrame, first: datetime, last: datetime) -> pl.DataFrame:
    """The rows that matter to the values in (first, last]."""
    longest = max(group.windows) if isinstance(group, WindowedFeatures) else timedelta(0)
    known = pl.col(group.known_at)
    # An event's first row may lie anywhere: where rows repeat events, all of them are needed.
    recent = pl.lit(value=True) if group.event_key else known > first - longest
    return table.filter(recent, known <= last).collect()


def _in_batches(group: EventFeatures, rows: pl.DataFrame, last: datetime, dice: random.Random) -> Iterator[Changes]:
    """The changes that each of some batches of random size brings, the rows in order of what became known."""
    ordered = rows.sort(group.known_at)
    cuts = sorted(dice.sample(range(len(ordered) + 1), min(BATCHES - 1, len(ordered)))) if len(ordered) else []
    state = State(group)
    for start, end in zip([0, *cuts], [*cuts, len(ordered)], strict=True):
        batch = ordered[start:end]
        until = (
            last if end == len(ordered) else batch[group.known_at].max() or state.until or ordered[group.known_at][0]
        )
        state, changes = advance(state, batch, until)  # type: ignore[arg-type]
        yield changes


def _tables(path: str, group: TableFeatures, expected: pl.DataFrame, seen: pl.DataFrame) -> Compared:
    """Two tables of values: the same rows, and the same bits in each."""
    by = [*group.join_keys, EVENT_TIMESTAMP]
    joined = expected.join(seen, on=by, how="full", suffix="__seen", coalesce=True).sort(by)
    again = joined.select(pl.col(f"{name}__seen").alias(name) for name in group.types)
    count, found = differences(path, group, joined.select(by), joined, again)
    if not len(joined) == len(expected) == len(seen):
        found.append(Difference(path, group.name, "moments", "all", str(len(expected)), str(len(seen))))
    return count, found
