"""PolarsOfflineStore through Feast's own interface, against the join's definition read literally."""

import inspect
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from join_examples import CASES, ENTITIES, START, VALUES, Case, Rows, Value, literal, tables

from feature_repo.entity_frames import EntityFrameError
from feature_repo.store import _import_feast
from feature_repo.table_sources import SourceError
from feature_repo.timestamps import TimestampError

_import_feast()
from feast import (  # noqa: E402
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    RepoConfig,
)
from feast.data_format import DeltaFormat  # noqa: E402
from feast.errors import SavedDatasetLocationAlreadyExists  # noqa: E402
from feast.feature_logging import LoggingConfig  # noqa: E402
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage  # noqa: E402
from feast.types import Float64, Int64, String  # noqa: E402
from feast.value_type import ValueType  # noqa: E402

from feature_repo.delta_source import DeltaSource  # noqa: E402

NAME = Entity(name="name", join_keys=["name"], value_type=ValueType.STRING)
NUMBER = Entity(name="number", join_keys=["number"], value_type=ValueType.INT64)
ENTITY_OF = {"name": NAME, "number": NUMBER}
FIELD_OF = {"name": Field(name="name", dtype=String), "number": Field(name="number", dtype=Int64)}
MOMENT = {"event_timestamp": pl.Datetime("us", "UTC")}
FOUR_ROWS = pl.DataFrame(
    {
        "name": ["b", "a", None, "b"],
        "event_timestamp": [START + timedelta(hours=hours) for hours in (3, 1, 2, 3)],
    },
    schema={"name": pl.String, "event_timestamp": pl.Datetime("us", "UTC")},
)


def open_test_store(folder: Path, **offline: Any) -> FeatureStore:
    return FeatureStore(
        config=RepoConfig(
            project="test",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
            offline_store={"type": "feature_repo.offline_store.PolarsOfflineStore", **offline},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
            coerce_tz_aware=False,
            repo_path=folder,
        )
    )


def view_name(case: Case) -> str:
    return f"view_{'_'.join(case.keys) or 'none'}_{int(case.has_created)}_{int(case.ttl.total_seconds())}"


def case_view(case: Case, folder: Path) -> FeatureView:
    return FeatureView(
        name=view_name(case),
        entities=[ENTITY_OF[key] for key in case.keys],
        ttl=case.ttl,
        schema=[*(FIELD_OF[key] for key in case.keys), Field(name="value", dtype=Int64)],
        source=FileSource(
            name=f"{view_name(case)}_rows",
            path=str(folder / "values.parquet"),
            timestamp_field="of",
            created_timestamp_column="written" if case.has_created else "",
        ),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feast")


@pytest.fixture(scope="module")
def stores(folder: Path) -> list[FeatureStore]:
    """One that joins in one piece, one that joins in slices of three rows."""
    tables([], [(("a", 1), 0, 0, 1)])[1].write_parquet(folder / "values.parquet")
    store = open_test_store(folder)
    store.apply([NAME, NUMBER, *(case_view(case, folder) for case in CASES)])
    return [store, open_test_store(folder, slice_rows=3, memory_megabytes=0)]


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=170, deadline=None)
@given(entities=ENTITIES, values=VALUES, sliced=st.booleans())
def test_the_store_gives_every_row_the_newest_value_that_was_known(
    case: Case, entities: Rows, values: list[Value], sliced: bool, stores: list[FeatureStore], folder: Path
) -> None:
    left, right = tables(entities, values)
    right.write_parquet(folder / "values.parquet")
    asked = left.rename({"moment": "event_timestamp"})
    job = stores[sliced].get_historical_features(entity_df=asked, features=[f"{view_name(case)}:value"])
    joined = job.to_polars()
    assert joined.columns == [*asked.columns, "value"]
    assert joined.select(asked.columns).equals(asked)
    assert joined["value"].to_list() == literal(left, right, case)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Two views of one entity in Delta and Parquet, one of them with a field mapping; an on-demand view; a service."""
    folder = tmp_path_factory.mktemp("shop")
    rows = pl.DataFrame(
        {
            "customer": ["a", "b", "b"],
            "of": [START, START + timedelta(hours=1), START + timedelta(hours=2)],
            "spent": [1.5, 2.5, 3.5],
        }
    ).cast({"of": pl.Datetime("us", "UTC")})
    rows.write_delta(folder / "orders")
    rows.rename({"customer": "name", "spent": "visits"}).write_parquet(folder / "visits.parquet")
    orders = FeatureView(
        name="orders",
        entities=[NAME],
        ttl=timedelta(0),
        schema=[FIELD_OF["name"], Field(name="spent", dtype=Float64)],
        source=DeltaSource(
            name="orders_rows", path=str(folder / "orders"), timestamp_field="of", field_mapping={"customer": "name"}
        ),
    )
    visits = FeatureView(
        name="visits",
        entities=[NAME],
        ttl=timedelta(0),
        schema=[FIELD_OF["name"], Field(name="visits", dtype=Float64)],
        source=FileSource(name="visits_rows", path=str(folder / "visits.parquet"), timestamp_field="of"),
    )
    per_visit = OnDemandFeatureView(
        name="per_visit",
        sources=[orders[["spent"]], visits[["visits"]]],
        schema=[Field(name="ratio", dtype=Float64)],
        mode="python",
        udf=spent_per_visit,
        udf_string=inspect.getsource(spent_per_visit),
    )
    logs = LoggingConfig(destination=FileLoggingDestination(path=str(folder / "logs")))
    service = FeatureService(name="service", features=[orders, visits, per_visit], logging_config=logs)
    store = open_test_store(folder)
    store.apply([NAME, orders, visits, per_visit, service])
    return store


def spent_per_visit(inputs):  # type: ignore[no-untyped-def]
    pairs = zip(inputs["spent"], inputs["visits"], strict=True)
    return {"ratio": [None if a is None or b is None else a / b for a, b in pairs]}


def features_of(store: FeatureStore, given: Any, features: Any, **options: Any) -> pl.DataFrame:
    return store.get_historical_features(entity_df=given, features=features, **options).to_polars()


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


@pytest.fixture
def fifty(folder: Path) -> tuple[pl.DataFrame, list[str]]:
    """Fifty entity rows in no order of time, and the features that are asked for them."""
    values: list[Value] = [(("a", number % 2 + 1), number * 1_000_000, 0, number) for number in range(50)]
    left, right = tables([(("a", number % 2 + 1), (number * 37 % 50) * 1_000_000) for number in range(50)], values)
    right.write_parquet(folder / "values.parquet")
    features = [f"{view_name(case)}:value" for case in CASES if case.keys == ("name", "number")]
    return left.rename({"moment": "event_timestamp"}), features[:1]


def test_a_join_goes_to_a_file_in_pieces_and_in_order(
    stores: list[FeatureStore], folder: Path, fifty: tuple[pl.DataFrame, list[str]]
) -> None:
    asked, features = fifty
    whole, sliced = (store.get_historical_features(entity_df=asked, features=features) for store in stores)
    in_pieces = open_test_store(folder, slice_rows=7).get_historical_features(entity_df=asked, features=features)
    for job in (sliced, in_pieces):
        assert job.sink_parquet(folder / "joined.parquet") == 50
        assert pl.read_parquet(folder / "joined.parquet").equals(whole.to_polars())


def test_slices_on_ray_give_the_same(
    stores: list[FeatureStore], folder: Path, fifty: tuple[pl.DataFrame, list[str]]
) -> None:
    import ray

    on_ray = open_test_store(folder, slice_rows=10, execution="ray", ray_address="local")
    try:
        assert features_of(on_ray, *fifty).equals(features_of(stores[0], *fifty))
    finally:
        ray.shutdown()


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


@pytest.mark.parametrize("moment", [pl.Datetime("ns", "UTC"), pl.Datetime("us"), pl.Datetime("us", "America/New_York")])
def test_a_source_may_have_timestamps_of_any_unit_and_zone(
    moment: pl.DataType, stores: list[FeatureStore], folder: Path
) -> None:
    left, right = tables([(("a", 1), 5)], [(("a", 1), 5, 0, 7)])
    changed = pl.col("of").cast(moment) if moment.time_zone else pl.col("of").dt.replace_time_zone(None)
    right.with_columns(changed).write_parquet(folder / "values.parquet")
    asked = left.rename({"moment": "event_timestamp"})
    assert features_of(stores[0], asked, [f"{view_name(CASES[0])}:value"])["value"].to_list() == [7]
