"""PolarsOfflineStore through Feast's own interface."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from join_examples import START
from offline_support import FOUR_ROWS, MOMENT, features_of, open_test_store

from feature_repo.store import _import_feast
from feature_repo.table_sources import SourceError

_import_feast()
from feast import FeatureService, FeatureStore  # noqa: E402
from feast.data_format import DeltaFormat  # noqa: E402
from feast.errors import SavedDatasetLocationAlreadyExists  # noqa: E402
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage  # noqa: E402


def test_several_views_of_both_kinds_and_an_on_demand_view(shop: FeatureStore) -> None:
    joined = features_of(shop, FOUR_ROWS, shop.get_feature_service("service"))
    assert joined["spent"].to_list() == [3.5, 1.5, None, 3.5]
    assert joined["visits"].to_list() == [3.5, 1.5, None, 3.5]
    assert joined["ratio"].to_list() == [1.0, 1.0, None, 1.0]


def test_full_feature_names_carry_the_view(shop: FeatureStore) -> None:
    joined = features_of(shop, FOUR_ROWS, ["orders:spent", "visits:visits"], full_feature_names=True)
    assert joined.columns == ["name", "event_timestamp", "orders__spent", "visits__visits"]
    on_demand = features_of(shop, FOUR_ROWS, ["orders:spent", "per_visit:ratio"], full_feature_names=True)
    assert on_demand["per_visit__ratio"].to_list() == [1.0, 1.0, None, 1.0]


def test_a_join_key_map_and_a_name_let_one_view_be_joined_twice(shop: FeatureStore) -> None:
    orders = shop.get_feature_view("orders")
    givers = orders.with_name("giver_orders").with_join_key_map({"name": "giver"})
    takers = orders.with_name("taker_orders").with_join_key_map({"name": "taker"})
    shop.apply([FeatureService(name="gifts", features=[givers, takers])])
    moments = [START + timedelta(hours=2)] * 2
    asked = pl.DataFrame({"giver": ["a", "b"], "taker": ["b", "a"], "event_timestamp": moments}).cast(MOMENT)
    joined = features_of(shop, asked, shop.get_feature_service("gifts"), full_feature_names=True)
    assert joined["giver_orders__spent"].to_list() == [1.5, 3.5]
    assert joined["taker_orders__spent"].to_list() == [3.5, 1.5]


def test_the_entity_frame_may_be_sql_over_the_data_sources(shop: FeatureStore) -> None:
    query = 'SELECT customer AS name, "of" AS event_timestamp FROM orders_rows WHERE spent > 2 ORDER BY spent DESC'
    assert features_of(shop, query, ["visits:visits"])["visits"].to_list() == [3.5, 2.5]


@pytest.mark.parametrize("kind", ["pandas", "arrow", "polars", "lazy"])
def test_the_kind_of_entity_frame_makes_no_difference(kind: str, shop: FeatureStore) -> None:
    frame = {
        "pandas": FOUR_ROWS.to_pandas,
        "arrow": FOUR_ROWS.to_arrow,
        "polars": FOUR_ROWS.clone,
        "lazy": FOUR_ROWS.lazy,
    }[kind]()
    assert features_of(shop, frame, ["orders:spent"])["spent"].to_list() == [3.5, 1.5, None, 3.5]


def test_without_an_entity_frame_every_recorded_moment_of_the_range_comes_back(shop: FeatureStore) -> None:
    start, end = START + timedelta(minutes=30), START + timedelta(hours=2)
    job = shop.get_historical_features(features=["orders:spent", "visits:visits"], start_date=start, end_date=end)
    assert job.to_polars().rows() == [("b", START + timedelta(hours=1), 2.5, 2.5), ("b", end, 3.5, 3.5)]


def test_feasts_frames_hold_what_ours_holds(shop: FeatureStore) -> None:
    job = shop.get_historical_features(entity_df=FOUR_ROWS, features=shop.get_feature_service("service"))
    ours = job.to_polars()
    assert pl.DataFrame(pl.from_arrow(job.to_arrow())).select(ours.columns).equals(ours)
    assert list(job.to_df()["spent"].dropna()) == [3.5, 1.5, 3.5]


def test_the_newest_rows_are_pulled_and_all_rows_are_pulled(shop: FeatureStore) -> None:
    provider, source = shop._get_provider(), shop.get_feature_view("visits").batch_source
    arguments = {
        "config": shop.config,
        "data_source": source,
        "join_key_columns": ["name"],
        "feature_name_columns": ["visits"],
        "timestamp_field": "of",
        "created_timestamp_column": None,
        "start_date": START,
        "end_date": START + timedelta(hours=2),
    }
    newest = provider.offline_store.pull_latest_from_table_or_query(**arguments).to_polars()
    assert newest.sort("name")["visits"].to_list() == [1.5, 3.5]
    everything = provider.offline_store.pull_all_from_table_or_query(**arguments).to_polars()
    assert everything["visits"].to_list() == [1.5, 2.5, 3.5]
    keyless = provider.offline_store.pull_latest_from_table_or_query(**(arguments | {"join_key_columns": []}))
    assert keyless.to_polars()["visits"].to_list() == [3.5]


@pytest.mark.parametrize("kind", ["parquet", "delta"])
def test_a_saved_dataset_is_kept_and_read_again(kind: str, shop: FeatureStore, tmp_path: Path) -> None:
    storage = SavedDatasetFileStorage(
        path=str(tmp_path / ("set.parquet" if kind == "parquet" else "set")),
        **({} if kind == "parquet" else {"file_format": DeltaFormat()}),
    )
    asked = FOUR_ROWS.drop_nulls()
    job = shop.get_historical_features(entity_df=asked, features=["orders:spent"])
    keep = partial(shop.create_saved_dataset, from_=job, name=f"set_{kind}", storage=storage)
    warns = partial(pytest.warns, RuntimeWarning, match="experimental")
    with warns():
        keep()
    with warns():
        kept = shop.get_saved_dataset(f"set_{kind}")
    assert sorted(kept.to_df()["spent"]) == [1.5, 3.5, 3.5]
    with warns(), pytest.raises(SavedDatasetLocationAlreadyExists):
        keep()


@pytest.mark.parametrize("view", ["orders", "visits"])
def test_rows_are_added_to_a_source(view: str, tmp_path: Path, shop: FeatureStore) -> None:
    column = {"orders": "spent", "visits": "visits"}[view]
    key = {"orders": "customer", "visits": "name"}[view]
    source = shop.get_feature_view(view).batch_source
    later = START + timedelta(days=1)
    added = pa.table({column: [9.0], key: ["c"], "of": pa.array([later], pa.timestamp("us", "UTC"))})
    store = shop._get_provider().offline_store
    store.offline_write_batch(shop.config, shop.get_feature_view(view), added, None)
    asked = pl.DataFrame({"name": ["c"], "event_timestamp": [later]}).cast(
        {"event_timestamp": pl.Datetime("us", "UTC")}
    )
    assert features_of(shop, asked, [f"{view}:{column}"])[column].to_list() == [9.0]
    with pytest.raises(SourceError, match="write exactly the source's columns"):
        store.offline_write_batch(shop.config, shop.get_feature_view(view), added.drop_columns([column]), None)
    assert source is not None


def test_rows_that_would_lose_something_are_not_added(shop: FeatureStore) -> None:
    added = pa.table({"visits": [9.5], "name": ["c"], "of": pa.array([START], pa.timestamp("us", "UTC"))})
    view, store = shop.get_feature_view("visits"), shop._get_provider().offline_store
    lossy = added.set_column(0, "visits", pa.array(["many"]))
    with pytest.raises(SourceError, match=r"'visits' holds String.*without loss"):
        store.offline_write_batch(shop.config, view, lossy, None)


def test_only_on_demand_features_that_were_asked_for_come_back(shop: FeatureStore) -> None:
    asked = FOUR_ROWS.with_columns(other__event_timestamp="event_timestamp")
    joined = features_of(shop, asked, ["orders:spent", "visits:visits"])
    assert joined.columns == ["name", "event_timestamp", "other__event_timestamp", "spent", "visits"]


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["a", "b", "stranger"])])
def test_texts_of_any_kind_find_their_entity_and_keep_their_type(kind: Any, shop: FeatureStore) -> None:
    asked = FOUR_ROWS.with_columns(name=pl.Series(["b", "a", "stranger", None]).cast(kind))
    joined = features_of(shop, asked, ["orders:spent"])
    assert joined["spent"].to_list() == [3.5, 1.5, None, None]
    assert joined["name"].dtype == kind


def test_an_empty_entity_frame_gives_an_empty_result(shop: FeatureStore) -> None:
    for frame in (FOUR_ROWS.clear(), FOUR_ROWS.clear().to_pandas()):
        assert features_of(shop, frame, ["orders:spent"]).columns == ["name", "event_timestamp", "spent"]


def test_logs_of_a_service_are_added_to_their_folder(shop: FeatureStore) -> None:
    service = shop.get_feature_service("service")
    logs = pa.table({"name": ["a"], "orders__spent": [1.5]})
    for _ in range(2):
        shop.write_logged_features(logs, service)
    folder = service.logging_config.destination.path
    assert pl.read_parquet(f"{folder}/*.parquet")["orders__spent"].to_list() == [1.5, 1.5]


def test_a_table_is_read_as_it_was_at_a_version(shop: FeatureStore) -> None:
    source = shop.get_feature_view("orders").batch_source
    now = DeltaTable(source.path).version()
    rows = pl.read_delta(source.path)
    rows.with_columns(spent=pl.col("spent") + 100).write_delta(source.path, mode="overwrite")
    then = open_test_store(Path(source.path).parent, versions={source.path: now})
    assert features_of(shop, FOUR_ROWS, ["orders:spent"])["spent"].to_list()[1] == 101.5
    job = then.get_historical_features(entity_df=FOUR_ROWS, features=["orders:spent"])
    assert job.to_polars()["spent"].to_list()[1] == 1.5
    assert job.versions == {source.path: now}
    rows.write_delta(source.path, mode="overwrite")
