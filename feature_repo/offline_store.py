"""PolarsOfflineStore: a Feast offline store that reads Delta tables and joins them with Polars."""

from datetime import datetime
from typing import Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from feast.errors import FeastEntityDFMissingColumnsError
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import _get_requested_feature_views_to_features_dict, make_tzaware

from configs.errors import MlwayError
from configs.features import RequestFeatures
from feature_repo.aggregations import EVENT_TIMESTAMP
from feature_repo.delta_source import DeltaSource
from feature_repo.point_in_time import TIMESTAMP_SUFFIX, UTC_MICROSECONDS, View, as_utc, point_in_time_join
from feature_repo.request_features import with_request_features

DECLARATION_TAG = "declaration"
"""Tag of an on-demand view that holds its request features' declaration as JSON."""


class EntityFrameError(MlwayError):
    """The entity frame cannot be joined as it is."""


class PolarsOfflineStoreConfig(FeastConfigBaseModel):
    """`offline_store` in feature_store.yaml."""

    type: Literal["feature_repo.offline_store.PolarsOfflineStore"] = "feature_repo.offline_store.PolarsOfflineStore"
    storage_options: dict[str, str] = {}
    versions: dict[str, int] = {}
    """Table path to the Delta version to read; other tables are read as they are now."""


class PolarsRetrievalJob(RetrievalJob):
    """A joined frame, computed when asked for."""

    def __init__(
        self,
        frame: pl.LazyFrame,
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
        versions: dict[str, int] | None = None,
    ) -> None:
        self._frame = frame
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []
        self._metadata = metadata
        self.versions = versions or {}
        """Delta version of each table that is read, by path."""

    @property
    def full_feature_names(self) -> bool:
        """Whether features are named `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Views that are computed from the joined frame."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self._metadata

    def to_polars(self, *, with_timestamps: bool = False) -> pl.DataFrame:
        """The joined frame with its request features, without a detour through pandas.

        With `with_timestamps`, column `VIEW__event_timestamp` says from when the values of each view are.
        Raises EntityFrameError for an on-demand view that was not declared in configs/features/.
        """
        frame = with_request_features(
            [_declared(view) for view in self._on_demand_feature_views], self._frame.collect()
        )
        return frame if with_timestamps else frame.select(pl.exclude(f"^.*{TIMESTAMP_SUFFIX}$"))

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        # One chunk: Feast writes only the first chunk of a table to the online store.
        return self._frame.select(pl.exclude(f"^.*{TIMESTAMP_SUFFIX}$")).collect().to_arrow().combine_chunks()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()


class PolarsOfflineStore(OfflineStore):
    """Point-in-time joins and latest values over Delta tables."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[Any],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PolarsRetrievalJob:
        """The features of `feature_refs` for every row of `entity_df`: a pandas, Polars or Arrow frame.

        Raises EntityFrameError, FeastEntityDFMissingColumnsError.
        """
        entities = _entity_frame(entity_df)
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        for view in on_demand:
            missing = view.get_request_data_schema().keys() - set(entities.columns)
            if missing:
                raise FeastEntityDFMissingColumnsError(missing, missing)  # type: ignore[no-untyped-call]
        by_view, _ = _get_requested_feature_views_to_features_dict(feature_refs, feature_views, on_demand)
        versions: dict[str, int] = {}
        views = [
            _view(config, view, names, full_feature_names, filter_by_created_timestamp, versions)
            for view, names in by_view.items()
        ]
        return PolarsRetrievalJob(
            point_in_time_join(entities.lazy(), EVENT_TIMESTAMP, views),
            full_feature_names=full_feature_names,
            on_demand_feature_views=on_demand,
            metadata=_metadata(feature_refs, entities),
            versions=versions,
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> PolarsRetrievalJob:
        """The newest row of each entity with a timestamp in [start_date, end_date]."""
        order = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        columns = [*join_key_columns, *feature_name_columns, *order]
        rows = _between(config, data_source, columns, order, start_date, end_date).sort(order)
        if not join_key_columns:
            return PolarsRetrievalJob(rows.tail(1))
        return PolarsRetrievalJob(rows.unique(join_key_columns, keep="last", maintain_order=True))

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PolarsRetrievalJob:
        """Every row with a timestamp in [start_date, end_date]."""
        order = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        columns = [*join_key_columns, *feature_name_columns, *order]
        return PolarsRetrievalJob(_between(config, data_source, columns, order, start_date, end_date))


def _entity_frame(frame: Any) -> pl.DataFrame:
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    elif isinstance(frame, pa.Table):
        frame = pl.DataFrame(pl.from_arrow(frame))
    elif isinstance(frame, pd.DataFrame):
        frame = pl.from_pandas(frame)
    if not isinstance(frame, pl.DataFrame):
        raise EntityFrameError(
            f"The entity frame is a {type(frame).__name__}.\nHint: give a Polars, pandas or Arrow frame."
        )
    if EVENT_TIMESTAMP not in frame.columns:
        raise EntityFrameError(
            f"The entity frame has no column {EVENT_TIMESTAMP!r}; it has {', '.join(frame.columns)}.\n"
            "Hint: add the moment as of which each row's features are wanted."
        )
    if frame[EVENT_TIMESTAMP].null_count():
        raise EntityFrameError(
            f"{frame[EVENT_TIMESTAMP].null_count()} rows have no {EVENT_TIMESTAMP!r}.\nHint: drop or complete them."
        )
    return frame.with_columns(as_utc(EVENT_TIMESTAMP, frame.schema[EVENT_TIMESTAMP]))


def _open(config: RepoConfig, source: Any) -> DeltaTable:
    if not isinstance(source, DeltaSource):
        raise EntityFrameError(
            f"PolarsOfflineStore reads Delta tables, not a {type(source).__name__}.\nHint: declare a DeltaSource."
        )
    store = config.offline_store
    return DeltaTable(source.path, store.versions.get(source.path), storage_options=store.storage_options or None)


def _view(
    config: RepoConfig, view: Any, features: list[str], full_names: bool, only_known: bool, versions: dict[str, int]
) -> View:
    source = view.batch_source
    table = _open(config, source)
    versions[source.path] = table.version()
    columns = {mapped: original for original, mapped in (source.field_mapping or {}).items()}
    rows = pl.scan_delta(table)
    schema = rows.collect_schema()
    name = view.projection.name_to_use()
    keys = {key: view.projection.join_key_map.get(key, key) for key in (c.name for c in view.entity_columns)}
    finals = {feature: f"{name}__{feature}" if full_names else feature for feature in dict.fromkeys(features)}
    created = f"{name}__created" if source.created_timestamp_column else None
    return View(
        values=rows.select(
            *(pl.col(columns.get(key, key)).alias(final) for key, final in keys.items()),
            *(pl.col(columns.get(feature, feature)).alias(final) for feature, final in finals.items()),
            as_utc(source.timestamp_field, schema[source.timestamp_field]).alias(name + TIMESTAMP_SUFFIX),
            *(
                [as_utc(source.created_timestamp_column, schema[source.created_timestamp_column]).alias(created)]
                if created
                else []
            ),
        ),
        keys=list(keys.values()),
        features=list(finals.values()),
        timestamp_column=name + TIMESTAMP_SUFFIX,
        created_column=created,
        ttl=view.ttl,
        known_only_after_creation=only_known,
    )


def _between(
    config: RepoConfig,
    source: Any,
    columns: list[str],
    times: list[str],
    start: datetime | None,
    end: datetime | None,
) -> pl.LazyFrame:
    rows = pl.scan_delta(_open(config, source))
    schema = rows.collect_schema()
    rows = rows.select(columns or list(schema)).with_columns(as_utc(time, schema[time]) for time in times)
    if start is not None:
        rows = rows.filter(pl.col(times[0]) >= pl.lit(make_tzaware(start)).cast(UTC_MICROSECONDS))
    if end is not None:
        rows = rows.filter(pl.col(times[0]) <= pl.lit(make_tzaware(end)).cast(UTC_MICROSECONDS))
    return rows


def _declared(view: OnDemandFeatureView) -> RequestFeatures:
    if DECLARATION_TAG not in view.tags:
        raise EntityFrameError(
            f"The on-demand view {view.name!r} was not declared in configs/features/.\nHint: use to_arrow() or to_df()."
        )
    return RequestFeatures.model_validate_json(view.tags[DECLARATION_TAG])


def _metadata(feature_refs: list[str], entities: pl.DataFrame) -> RetrievalMetadata:
    first, last = entities.select(first=pl.min(EVENT_TIMESTAMP), last=pl.max(EVENT_TIMESTAMP)).row(0)
    keys = [column for column in entities.columns if column != EVENT_TIMESTAMP]
    return RetrievalMetadata(feature_refs, keys, first, last)
