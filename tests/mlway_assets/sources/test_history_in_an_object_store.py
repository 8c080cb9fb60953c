"""PolarsOfflineStore over tables in an object store."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from configs.environments import FeatureStoreAddresses, HistoricalJoins, SqliteOnlineStore
from configs.load import load_environment
from feature_repo.store import open_store

START = datetime(2013, 10, 1, tzinfo=UTC)
MOMENT = {"event_timestamp": pl.Datetime("us", "UTC")}


@pytest.fixture
def store(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store whose environment keeps its lake in the bucket, with a view over Delta and one over Parquet."""
    local = load_environment("local")
    lake = local.lake.model_copy(
        update={
            "uri": f"s3://{bucket.name}",
            "storage_options": bucket.options,
            "storage_secrets": bucket.secrets,
        }
    )
    addresses = FeatureStoreAddresses(
        registry=f"sqlite:///{tmp_path}/registry.db",
        online=SqliteOnlineStore(kind="sqlite", path=str(tmp_path / "online.db")),
        history=HistoricalJoins(memory_megabytes=0, slice_rows=2),
    )
    environment = local.model_copy(update={"lake": lake, "feature_store": addresses})
    opened = open_store(environment)
    rows = pl.DataFrame({"name": ["a", "b"], "of": [START, START + timedelta(hours=1)], "spent": [1.5, 2.5]})
    rows = rows.with_columns(pl.col("of").cast(pl.Datetime("us", "UTC")))
    options = opened.config.offline_store.storage_options
    rows.write_delta(f"s3://{bucket.name}/orders", storage_options=options)
    rows.rename({"spent": "visits"}).write_parquet(f"s3://{bucket.name}/visits.parquet", storage_options=options)
    opened.apply(views(bucket))
    return opened


def views(bucket: Any) -> list[Any]:
    from feast import Entity, FeatureView, Field, FileSource
    from feast.types import Float64, String
    from feast.value_type import ValueType

    from feature_repo.delta_source import DeltaSource

    name = Entity(name="name", join_keys=["name"], value_type=ValueType.STRING)
    sources = {
        "spent": DeltaSource(name="orders_rows", path=f"s3://{bucket.name}/orders", timestamp_field="of"),
        "visits": FileSource(
            name="visits_rows",
            path=f"s3://{bucket.name}/visits.parquet",
            timestamp_field="of",
            s3_endpoint_override=bucket.options["aws_endpoint_url"],
        ),
    }
    made = [
        FeatureView(
            name=f"{feature}_view",
            entities=[name],
            ttl=timedelta(0),
            schema=[Field(name="name", dtype=String), Field(name=feature, dtype=Float64)],
            source=source,
        )
        for feature, source in sources.items()
    ]
    return [name, *made]


def ask(store: Any, names: list[str]) -> pl.DataFrame:
    asked = pl.DataFrame({"name": names, "event_timestamp": [START + timedelta(hours=2)] * len(names)}).cast(MOMENT)
    job = store.get_historical_features(entity_df=asked, features=["spent_view:spent", "visits_view:visits"])
    joined: pl.DataFrame = job.to_polars()
    return joined


def test_history_is_joined_in_slices_from_delta_and_parquet_in_a_bucket(store: Any) -> None:
    joined = ask(store, ["b", "a", "c"])
    assert joined["spent"].to_list() == [2.5, 1.5, None]
    assert joined["visits"].to_list() == [2.5, 1.5, None]


@pytest.mark.parametrize("feature", ["spent", "visits"])
def test_rows_are_added_to_a_table_in_a_bucket(store: Any, feature: str) -> None:
    added = pa.table({"name": ["c"], "of": pa.array([START], pa.timestamp("us", "UTC")), feature: [9.0]})
    view = store.get_feature_view(f"{feature}_view")
    store._get_provider().offline_store.offline_write_batch(store.config, view, added, None)
    assert ask(store, ["c"])[feature].to_list() == [9.0]
