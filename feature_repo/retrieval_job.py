"""What a retrieval gives: a frame computed when asked for, in memory or straight into a file."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig

from configs.features import RequestFeatures
from feature_repo.request_features import with_request_features
from feature_repo.table_sources import DELTA, is_taken, location, write

DECLARATION_TAG = "declaration"
"""Tag of an on-demand view that holds its request features' declaration as JSON."""
_COMPRESSION: Literal["snappy"] = "snappy"
"""What every reader of Parquet knows, and the cheapest to write."""
Pieces = Callable[[], Iterator[pl.DataFrame]]


class PolarsRetrievalJob(RetrievalJob):
    """A joined frame, computed when asked for.

    `frame` computes it whole; `pieces` computes it piece by piece, in order, where it may be too large for memory.
    """

    def __init__(
        self,
        config: RepoConfig,
        frame: Callable[[], pl.DataFrame],
        pieces: Pieces | None = None,
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
        metadata: RetrievalMetadata | None = None,
        versions: dict[str, int] | None = None,
        timestamps: Sequence[str] = (),
    ) -> None:
        self._config = config
        self._frame = frame
        self._pieces = pieces or (lambda: iter((frame(),)))
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)
        self._metadata = metadata
        self._timestamps = list(timestamps)
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
        """The joined frame with its on-demand features, without a detour through pandas.

        With `with_timestamps`, column `VIEW__event_timestamp` says from when the values of each view are.
        """
        return self._finished(self._frame(), with_timestamps=with_timestamps)

    def iter_polars(self, *, with_timestamps: bool = False) -> Iterator[pl.DataFrame]:
        """The same in order, piece by piece."""
        for piece in self._pieces():
            yield self._finished(piece, with_timestamps=with_timestamps)

    def sink_parquet(self, path: Path | str) -> int:
        """Write the frame to one Parquet file, piece by piece, whole or not at all. Returns the number of rows."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(target.name + ".unfinished")
        rows = _write_pieces(self.iter_polars(), unfinished)
        unfinished.replace(target)
        return rows

    def persist(self, storage: Any, allow_overwrite: bool | None = False, timeout: int | None = None) -> None:
        """Write the frame where a saved dataset is kept: a Parquet file, or a Delta table (with DeltaFormat).

        Raises SavedDatasetLocationAlreadyExists, unless it may be overwritten; SourceError for another kind of storage,
        or where it cannot be told whether the location is free.
        """
        kind, path, options = location(self._config, storage.to_data_source())
        if not allow_overwrite and is_taken(kind, path, options):
            raise SavedDatasetLocationAlreadyExists(location=path)
        if kind != DELTA and "://" not in path:
            self.sink_parquet(path)
        else:
            write(kind, path, options, self.to_polars(), mode="overwrite")

    def _finished(self, frame: pl.DataFrame, *, with_timestamps: bool = False) -> pl.DataFrame:
        views = self._on_demand_feature_views
        if all(DECLARATION_TAG in view.tags for view in views) and not (views and self._full_feature_names):
            computed = with_request_features([_declared(view) for view in views], frame)
            frame = computed.drop(name for name in self._unasked() if name not in frame.columns)
        elif views:
            # A view that was not declared in configs/features/ is evaluated as Feast does it.
            whole = PolarsRetrievalJob(
                self._config,
                lambda: frame.drop(self._timestamps),
                full_feature_names=self._full_feature_names,
                on_demand_feature_views=views,
                metadata=self._metadata,
            )
            frame = pl.DataFrame(pl.from_arrow(whole.to_arrow())).hstack(frame.select(self._timestamps))
        return frame if with_timestamps else frame.drop(self._timestamps)

    def _unasked(self) -> list[str]:
        """Features of the on-demand views that nobody asked for."""
        if self._metadata is None:
            return []
        named: list[tuple[str, Any]] = [
            (view.projection.name_to_use(), view)  # type: ignore[no-untyped-call]
            for view in self._on_demand_feature_views
        ]
        asked = set(self._metadata.features)
        return [field.name for name, view in named for field in view.features if f"{name}:{field.name}" not in asked]

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        # One chunk: Feast writes only the first chunk of a table to the online store.
        return self._frame().drop(self._timestamps).to_arrow().combine_chunks()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()


def _write_pieces(pieces: Iterator[pl.DataFrame], path: Path) -> int:
    """One Parquet file of all pieces. While one is written the next is computed."""
    first = next(pieces)
    second = next(pieces, None)
    if second is None:
        first.write_parquet(path, compression=_COMPRESSION)
        return len(first)
    schema, rows = _arrow(first).schema, 0
    # Numbers that hardly repeat are not worth a dictionary; texts are.
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    with (
        ThreadPoolExecutor(1) as background,
        pq.ParquetWriter(path, schema, compression=_COMPRESSION, use_dictionary=texts) as writer,
    ):
        written: Future[None] | None = None
        for piece in chain((first, second), pieces):
            if written is not None:
                written.result()
            written = background.submit(writer.write_table, _arrow(piece))
            rows += len(piece)
        if written is not None:
            written.result()
    return rows


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _declared(view: OnDemandFeatureView) -> RequestFeatures:
    return RequestFeatures.model_validate_json(view.tags[DECLARATION_TAG])
