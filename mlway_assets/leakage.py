"""Prove that a training set knows nothing from after its rows' moments: poison the future and build it again.

Everything known after a moment T is altered in the curated tables, and is there twice more, so that counts change too.
The values computed from that are joined by altered copies that say they were written after T. Rows of the training set
from up to T must come out the same.
Static attributes have no moment, so there is nothing of theirs to poison.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polars as pl

from configs.features import EventFeatures, StaticFeatures, TableFeatures, WindowedFeatures
from configs.products import ModelProduct
from feature_repo.aggregations import feature_values
from feature_repo.expressions import roots
from feature_repo.store import open_store
from feature_repo.timestamps import UTC_MICROSECONDS
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.compute.frame_hash import frame_hash
from mlway_assets.feature_tables import LAYER as FEATURES
from mlway_assets.feature_tables import curated_table_of
from mlway_assets.resources import Platform
from mlway_assets.training_sets import LAYER, TrainingSetError, newest_training_set

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

SPAN = timedelta(days=1)
MOST_ROWS = 5_000
CREATED = "__created"


@dataclass(frozen=True)
class LeakReport:
    """How many rows were built again, as of when, how many values were poisoned, and which features came out other."""

    rows: int
    moment: datetime
    poisoned: int
    recorded_sha256: str
    rebuilt_sha256: str
    leaking: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether the rows are what they were, and something was there to leak."""
        return self.recorded_sha256 == self.rebuilt_sha256 and self.rows > 0 and self.poisoned > 0


def find_leaks(product: ModelProduct, platform: Platform) -> LeakReport:
    """Build the newest training set's rows of the day before T again, from poisoned tables; T lies in its middle."""
    newest = newest_training_set(product.name, platform)
    if not newest.record.rows:
        raise TrainingSetError(f"The training set of {product.name} holds no rows.\nHint: mend its label or its split.")
    frame = platform.lake.scan(LAYER, product.name, newest.version).collect()
    moment: datetime = frame[EVENT_TIMESTAMP].sort()[len(frame) // 2]
    rows = frame.filter(pl.col(EVENT_TIMESTAMP).is_between(moment - SPAN, moment)).tail(MOST_ROWS)
    groups = [group for group in platform.project.table_groups(product) if not isinstance(group, StaticFeatures)]
    features = [name for group in groups for name in group.types]
    keys = list(dict.fromkeys(key for group in groups for key in group.join_keys))
    rebuilt, poisoned = _from_poisoned_tables(
        groups, platform, newest.record.inputs, rows.select(*keys, EVENT_TIMESTAMP), moment
    )
    recorded, again = frame_hash(rows.select(features)), frame_hash(rebuilt.select(features))
    leaking = tuple(name for name in features if recorded.columns[name] != again.columns[name])
    return LeakReport(len(rows), moment, poisoned, recorded.sha256, again.sha256, leaking)


def _from_poisoned_tables(
    groups: Sequence[EventFeatures], platform: Platform, inputs: dict[str, int], rows: pl.DataFrame, moment: datetime
) -> tuple[pl.DataFrame, int]:
    """The rows with their features, read from poisoned values by the offline store, and how many values those were."""
    store = open_store(platform.environment)
    first: datetime = rows[EVENT_TIMESTAMP].sort()[0]
    views, references, poisoned = [], [], 0
    with TemporaryDirectory(prefix="mlway-leak-check-") as folder:
        for group in groups:
            table = curated_table_of(group, platform.lake, inputs[f"{FEATURES}/{group.name}"])
            values = poisoned_values(group, table, first, moment)
            poisoned += values.select((pl.col(CREATED) > moment).sum()).item()
            path = Path(folder) / f"{group.name}.parquet"
            values.write_parquet(path)
            views.append(_view(store, group, path))
            references += [f"{group.name}:{name}" for name in group.types]
        job = _retrieve(store, views, references, rows)
        return job.to_polars(), poisoned


def poisoned_values(group: EventFeatures, table: pl.LazyFrame, first: datetime, moment: datetime) -> pl.DataFrame:
    """The group's values from a table in which everything known after `moment` is altered, with late-written copies.

    Columns as `feature_values` gives them, and when each row was written. They hold for moments from `first` on.
    """
    longest = max(group.windows) if isinstance(group, WindowedFeatures) else group.time_to_live
    # What has left every window and lived out its ttl before the first row changes nothing: it is not read.
    needed = pl.col(group.known_at) > first - longest - group.time_to_live
    near = table.filter(pl.col(group.known_at) <= moment + SPAN)
    values = feature_values(group, _poisoned(group, near if group.event_key else near.filter(needed), moment)).collect()
    genuine = values.with_columns(pl.col(EVENT_TIMESTAMP).alias(CREATED))
    written_late = values.filter(pl.col(EVENT_TIMESTAMP) <= moment).with_columns(
        pl.lit(moment + timedelta(microseconds=1), UTC_MICROSECONDS).alias(CREATED),
        *(_altered(pl.col(name), values.schema[name]).alias(name) for name in group.types),
    )
    return pl.concat([genuine, written_late])


def _poisoned(group: EventFeatures, rows: pl.LazyFrame, moment: datetime) -> pl.LazyFrame:
    """The rows up to `moment` as they are; of each later one, another instead and two more."""
    later = pl.col(group.known_at) > moment
    schema = rows.collect_schema()
    fixed = {*group.join_keys, group.known_at}
    # The one instead may no longer meet the group's condition; the two more do.
    decisive = set(roots(group.where)) if group.where is not None else set()
    instead = _but(schema, {*fixed, *group.event_key})
    more = _but(schema, fixed | decisive)
    known_later = rows.filter(later)
    second = known_later.with_columns(more)
    third = second.with_columns(more)
    return pl.concat([rows.filter(~later), known_later.with_columns(instead), second, third])


def _but(schema: pl.Schema, fixed: Collection[str]) -> list[pl.Expr]:
    """Every column altered, but for these."""
    return [_altered(pl.col(name), kind).alias(name) for name, kind in schema.items() if name not in fixed]


def _altered(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Another value of the same type, also where there was none."""
    if kind.is_numeric():
        return (value * 3 + 1_009).fill_null(1_009).cast(kind)
    if kind == pl.Boolean:
        return ~value.fill_null(value=False)
    if kind == pl.String:
        return value.fill_null("") + "?"
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        return value.dt.offset_by("9d").fill_null(pl.lit(0).cast(kind))
    return value


def _view(store: "FeatureStore", group: TableFeatures, path: Path) -> "FeatureView":
    """The registered view, over the poisoned values."""
    from feast import FeatureView, FileSource

    registered = store.get_feature_view(group.name)
    return FeatureView(
        name=group.name,
        entities=[store.get_entity(name) for name in registered.entities],
        ttl=registered.ttl,
        schema=registered.schema,
        source=FileSource(
            name=f"{group.name}_poisoned",
            path=str(path),
            timestamp_field=EVENT_TIMESTAMP,
            created_timestamp_column=CREATED,
        ),
    )


def _retrieve(store: "FeatureStore", views: list["FeatureView"], references: list[str], rows: pl.DataFrame) -> Any:
    from feature_repo.offline_store import PolarsOfflineStore

    return PolarsOfflineStore.get_historical_features(
        store.config, views, references, rows, store.registry, store.project
    )
