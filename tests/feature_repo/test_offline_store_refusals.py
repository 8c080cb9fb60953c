"""What PolarsOfflineStore refuses, before any work, and what it says."""

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from join_examples import CASES, tables
from offline_support import FIELD_OF, FOUR_ROWS, NAME, features_of, view_name

from feature_repo.entity_frames import EntityFrameError
from feature_repo.store import _import_feast
from feature_repo.table_sources import SourceError
from feature_repo.timestamps import TimestampError

_import_feast()
from feast import FeatureStore, FeatureView, Field, FileSource  # noqa: E402
from feast.types import Float64  # noqa: E402

NAIVE = FOUR_ROWS.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None))
ZONES = [datetime.fromisoformat(text) for text in ("2013-11-03T04:00:00+00:00", "2013-11-03T04:00:00+01:00")]


def mixed_zones() -> Any:
    import pandas as pd

    return pd.DataFrame({"name": ["a", "b"], "event_timestamp": pd.Series(ZONES, dtype=object)})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FOUR_ROWS.drop("event_timestamp"), "no column 'event_timestamp'.*Hint: add the moment"),
        (FOUR_ROWS.with_columns(event_timestamp=pl.lit(None, pl.Datetime("us", "UTC"))), "4 rows have no"),
        (NAIVE, "'event_timestamp'.*no time zone.*replace_time_zone"),
        (NAIVE.to_pandas(), "'event_timestamp'.*no time zone"),
        (FOUR_ROWS.with_columns(pl.col("event_timestamp").cast(pl.String)), "is String, not a timestamp.*to_datetime"),
        (FOUR_ROWS.with_columns(pl.col("event_timestamp").cast(pl.Date)), "is Date, not a timestamp"),
        (FOUR_ROWS.with_columns(name=pl.lit(1)), "'name'.*is Int32; 'orders' has it as String.*cast"),
        (FOUR_ROWS.drop("name"), "no column 'name', by which 'orders' is joined"),
        (FOUR_ROWS.with_columns(spent=pl.lit(1)), "'spent' is there twice.*full_feature_names"),
        ("SELECT * FROM nowhere", "cannot be run.*data sources' names"),
        ([1], "is a list"),
        (FOUR_ROWS.to_pandas()[["name", "name", "event_timestamp"]], "named alike: name"),
        (FOUR_ROWS.with_columns(orders__event_timestamp="event_timestamp"), "'orders__event_timestamp' is there twice"),
    ],
)
def test_an_entity_frame_that_cannot_be_joined_is_refused_before_any_work(
    frame: Any, message: str, shop: FeatureStore
) -> None:
    with pytest.raises(EntityFrameError, match=f"(?s){message}"):
        shop.get_historical_features(entity_df=frame, features=["orders:spent"])


def test_mixed_time_zones_in_a_pandas_column_are_named(shop: FeatureStore) -> None:
    with pytest.raises(EntityFrameError, match=r"(?s)UTC, UTC\+01:00.*to_datetime"):
        shop.get_historical_features(entity_df=mixed_zones(), features=["orders:spent"])


@pytest.mark.parametrize(
    ("file", "moment", "message"),
    [("gone", "of", "gone.parquet cannot be read"), ("values", "of", "no column 'spent'")],
)
def test_a_source_that_is_not_there_or_lacks_a_column_is_named(
    file: str, moment: str, message: str, stores: list[FeatureStore], folder: Path
) -> None:
    source = FileSource(name=file, path=str(folder / f"{file}.parquet"), timestamp_field=moment)
    fields = [FIELD_OF["name"], Field(name="spent", dtype=Float64)]
    view = FeatureView(name="broken", entities=[NAME], schema=fields, source=source)
    store = stores[0]
    with pytest.raises(SourceError, match=message):
        store._get_provider().offline_store.get_historical_features(
            store.config, [view], ["broken:spent"], FOUR_ROWS, store.registry, "test"
        )


def test_a_number_is_no_moment(stores: list[FeatureStore], folder: Path) -> None:
    left, right = tables([(("a", 1), 5)], [(("a", 1), 5, 0, 7)])
    right.with_columns(pl.col("of").dt.epoch("s")).write_parquet(folder / "values.parquet")
    asked = left.rename({"moment": "event_timestamp"})
    with pytest.raises(TimestampError, match="'of' is Int64, not a timestamp"):
        features_of(stores[0], asked, [f"{view_name(CASES[0])}:value"])
