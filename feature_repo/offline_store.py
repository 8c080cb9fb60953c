"""PolarsOfflineStore: a Feast offline store that reads Delta tables and Parquet files and joins them with Polars.

Only Feast's interface lives here. The join: point_in_time.py and slices.py; the tables: table_sources.py; what is
asked: entity_frames.py and opened_views.py; what is given: retrieval_job.py.
"""

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
from feast.errors import FeastEntityDFMissingColumnsError, FeastJoinKeysDuringMaterialization
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import _get_requested_feature_views_to_features_dict, make_tzaware
from pydantic import Field

from feature_repo.entity_frames import EntityFrameError, check_names, entity_frame
from feature_repo.opened_views import check_view_keys, open_view
from feature_repo.point_in_time import View
from feature_repo.ray_slices import joined_on_ray
from feature_repo.retrieval_job import PolarsRetrievalJob
from feature_repo.slices import Join, fits, in_memory, in_order, joined_in_turn, whole, whole_in_pieces
from feature_repo.table_sources import SourceError, append, scan
from feature_repo.timestamps import UTC_MICROSECONDS, as_utc
from feature_repo.windows import EVENT_TIMESTAMP


class PolarsOfflineStoreConfig(FeastConfigBaseModel):
    """`offline_store` in feature_store.yaml."""

    type: Literal["feature_repo.offline_store.PolarsOfflineStore"] = "feature_repo.offline_store.PolarsOfflineStore"
    storage_options: dict[str, str] = {}
    """Options of the object store, under the names that Polars and deltalake share."""
    versions: dict[str, int] = {}
    """Delta tables to read as they were: path to version."""
    memory_megabytes: float = Field(default=1_500, ge=0)
    """A join whose values take more is done in time slices."""
    slice_rows: int = Field(default=1_000_000, gt=0)
    """Entity rows in a time slice, and in a piece of a result that goes to a file."""
    execution: Literal["local", "ray"] = "local"
    """Where slices run: one after the other in this process, or as Ray tasks."""
    ray_address: str | None = None
    """The cluster; `local` starts one on this machine. By default that of RAY_ADDRESS."""
    spill_folder: str | None = None
    """Where a join that is larger than memory keeps its pieces; by default the system's temporary folder."""


class PolarsOfflineStore(OfflineStore):
    """Point-in-time joins and latest values over Delta tables and Parquet files."""

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
        """The features of `feature_refs` for every row of `entity_df`: a pandas, Polars or Arrow frame, or SQL text.

        Without `entity_df`: for every moment in [start_date, end_date] at which a view has a value. A value that was
        created after a row's timestamp is never seen, whether or not `filter_by_created_timestamp` asks for that.
        Raises EntityFrameError, SourceError, FeastEntityDFMissingColumnsError.
        """
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        by_view, _ = _get_requested_feature_views_to_features_dict(feature_refs, feature_views, on_demand)
        opened = [open_view(config, view, names, full_names=full_feature_names) for view, names in by_view.items()]
        if entity_df is None:
            entities = _recorded_moments([view for view, _ in opened], start_date, end_date)
        else:
            entities = entity_frame(entity_df, partial(_table, config, registry, project))
        _check_request_data(on_demand, entities)
        for view, _ in opened:
            check_view_keys(entities, view)
        check_names(entities, (name for view, _ in opened for name in (*view.features, view.timestamp_column)))
        join = Join(entities, EVENT_TIMESTAMP, [view for view, _ in opened])
        return PolarsRetrievalJob(
            config,
            partial(_joined, join, config.offline_store),
            partial(_joined_pieces, join, config.offline_store),
            full_feature_names=full_feature_names,
            on_demand_feature_views=on_demand,
            metadata=_metadata(feature_refs, entities),
            versions={path: version for _, versions in opened for path, version in versions.items()},
            timestamps=[view.timestamp_column for view, _ in opened],
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PolarsRetrievalJob:
        """The newest row of each entity with a timestamp in [start_date, end_date]; of equal ones the last created."""
        order = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        columns = [*join_key_columns, *feature_name_columns, *order]
        rows = _between(config, data_source, columns, order, start_date, end_date)
        # What has no entity or moment counts for nothing, and what has no creation was there from its moment on.
        rows = rows.drop_nulls([*join_key_columns, timestamp_field])
        if created_timestamp_column:
            rows = rows.with_columns(pl.col(created_timestamp_column).fill_null(pl.col(timestamp_field)))
        rows = rows.sort(order, maintain_order=True)
        if join_key_columns:
            newest = rows.unique(join_key_columns, keep="last", maintain_order=True)
        else:
            newest = rows.tail(1).with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))
        return PolarsRetrievalJob(config, newest.collect)

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
        """Every row with a timestamp in [start_date, end_date], in the table's order."""
        order = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        columns = [*join_key_columns, *feature_name_columns, *order]
        return PolarsRetrievalJob(config, _between(config, data_source, columns, order, start_date, end_date).collect)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: Any, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Add rows to the view's source, whole or not at all. Raises SourceError."""
        append(config, feature_view.batch_source, table)
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig, data: pa.Table | Path, source: Any, logging_config: Any, registry: Any
    ) -> None:
        """Add a feature service's logs to its destination: a folder of Parquet files. Raises SourceError."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise SourceError(
                f"PolarsOfflineStore does not write logs to a {type(destination).__name__}.\n"
                "Hint: use a FileLoggingDestination."
            )
        uri = FileSource.get_uri_for_file_path(repo_path=config.repo_path, uri=destination.path)
        filesystem, path = FileSource.create_filesystem_and_path(str(uri), destination.s3_endpoint_override)
        ds.write_dataset(
            ds.dataset(data) if isinstance(data, Path) else data,
            path,
            format="parquet",
            partitioning=destination.partition_by,
            filesystem=filesystem,
            # A new name for each flush: logs are added, never replaced.
            basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
            existing_data_behavior="overwrite_or_ignore",
        )


def _check_request_data(views: list[OnDemandFeatureView], entities: pl.DataFrame) -> None:
    for view in views:
        missing = view.get_request_data_schema().keys() - set(entities.columns)
        if missing:
            raise FeastEntityDFMissingColumnsError(missing, missing)  # type: ignore[no-untyped-call]


def _table(config: RepoConfig, registry: Any, project: str, name: str) -> pl.LazyFrame | None:
    """The rows of the data source, or of the source of the feature view, that a query names."""
    for source in registry.list_data_sources(project, allow_cache=True):
        if source.name == name:
            return scan(config, source)[0]
    for view in registry.list_feature_views(project, allow_cache=True):
        if view.name == name:
            return scan(config, view.batch_source)[0]
    return None


def _recorded_moments(views: list[View], start: datetime | None, end: datetime | None) -> pl.DataFrame:
    """Without an entity frame: every entity and moment of the range at which one of the views has a value."""
    if len({tuple(sorted(view.keys)) for view in views}) != 1:
        raise EntityFrameError(
            "Without an entity frame, all views must have the same join keys.\nHint: give an entity frame."
        )
    moments = []
    for view in views:
        moment = pl.col(view.timestamp_column)
        inside = [moment >= _utc(start)] if start is not None else []
        inside += [moment <= _utc(end)] if end is not None else []
        moments.append(view.values.filter(*inside).select(*sorted(view.keys), moment.alias(EVENT_TIMESTAMP)))
    return pl.concat(moments).drop_nulls().unique().sort(EVENT_TIMESTAMP, *sorted(views[0].keys)).collect()


def _joined(join: Join, settings: PolarsOfflineStoreConfig) -> pl.DataFrame:
    is_whole = not len(join.entities) or (settings.execution == "local" and fits(join, settings.memory_megabytes))
    return whole(join) if is_whole else in_memory(_slices(join, settings))


def _joined_pieces(join: Join, settings: PolarsOfflineStoreConfig) -> Iterator[pl.DataFrame]:
    if len(join.entities) <= settings.slice_rows:
        yield _joined(join, settings)
        return
    if settings.execution == "local" and fits(join, settings.memory_megabytes):
        yield from whole_in_pieces(join, settings.slice_rows)
        return
    is_sorted = join.entities[join.timestamp].is_sorted()
    yield from in_order(_slices(join, settings), settings.slice_rows, is_sorted=is_sorted, folder=settings.spill_folder)


def _slices(join: Join, settings: PolarsOfflineStoreConfig) -> Iterator[pl.DataFrame]:
    if settings.execution == "ray":
        return joined_on_ray(join, settings.slice_rows, settings.ray_address)
    return joined_in_turn(join, settings.slice_rows)


def _between(
    config: RepoConfig,
    source: Any,
    columns: list[str],
    times: list[str],
    start: datetime | None,
    end: datetime | None,
) -> pl.LazyFrame:
    rows, _ = scan(config, source)
    schema = rows.collect_schema()
    keys = set(columns) - set(schema)
    if keys:
        raise FeastJoinKeysDuringMaterialization(source.name, keys, set(schema))
    rows = rows.select(list(dict.fromkeys(columns)) or list(schema)).with_columns(
        as_utc(time, schema[time]) for time in times
    )
    if start is not None:
        rows = rows.filter(pl.col(times[0]) >= _utc(start))
    if end is not None:
        rows = rows.filter(pl.col(times[0]) <= _utc(end))
    return rows


def _utc(moment: datetime) -> pl.Expr:
    return pl.lit(make_tzaware(moment)).cast(UTC_MICROSECONDS)


def _metadata(feature_refs: list[str], entities: pl.DataFrame) -> RetrievalMetadata:
    first, last = entities.select(first=pl.min(EVENT_TIMESTAMP), last=pl.max(EVENT_TIMESTAMP)).row(0)
    keys = [column for column in entities.columns if column != EVENT_TIMESTAMP]
    return RetrievalMetadata(feature_refs, keys, first, last)
