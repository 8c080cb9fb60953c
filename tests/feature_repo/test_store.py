"""The feature store of the small platform: Feast's own interfaces and ours say the same."""

import hashlib
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from online_support import OnlineStoreUnderTest
from servers import RedisServer

from configs.environments import FeatureStoreAddresses, RedisOnlineStore
from feature_repo.entity_frames import EntityFrameError
from feature_repo.online_writing import build_writer
from feature_repo.services import definitions_hash
from feature_repo.store import (
    FEATURE_STORE_FILE,
    feast_variables,
    historical_features,
    materialize_group,
    open_store,
    register_features,
)
from mlway_assets.compute.population import rows_to_score
from mlway_assets.resources import Platform
from serving.online_features import build_online_features, join_key_columns, with_features

SERVICE = "flight_delay"


@pytest.fixture(scope="module")
def requests(built_platform: Platform) -> pl.DataFrame:
    product = built_platform.project.products[SERVICE]
    table = built_platform.lake.scan("curated", "fact_flights")
    return rows_to_score(product, table, built_platform.clock.now()).collect().sample(400, seed=1)


def test_every_entity_row_comes_back_once_and_in_order(built_platform: Platform, requests: pl.DataFrame) -> None:
    twice = pl.concat([requests, requests.head(50)])
    joined = historical_features(open_store(built_platform.environment), twice, SERVICE).to_polars()
    assert joined.select(twice.columns).equals(twice)


@pytest.mark.parametrize("kind", ["polars", "pandas", "arrow"])
def test_the_kind_of_entity_frame_makes_no_difference(
    kind: str, built_platform: Platform, requests: pl.DataFrame
) -> None:
    frame = {"polars": requests, "pandas": requests.to_pandas(), "arrow": requests.to_arrow()}[kind]
    store = open_store(built_platform.environment)
    job = store.get_historical_features(entity_df=frame, features=store.get_feature_service(SERVICE))
    wanted = historical_features(store, requests, SERVICE).to_polars().drop(requests.columns)
    assert job.to_polars().select(wanted.columns).equals(wanted)


def test_feasts_own_on_demand_views_give_what_our_request_features_give(
    built_platform: Platform, requests: pl.DataFrame
) -> None:
    job = historical_features(open_store(built_platform.environment), requests, SERVICE)
    ours, feasts = job.to_polars(), pl.DataFrame(pl.from_arrow(job.to_arrow()))
    assert ours.equals(feasts.select(ours.columns))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"tailnum": ["N1"]}), "no column 'event_timestamp'"),
        (
            pl.DataFrame({"event_timestamp": [None]}, schema={"event_timestamp": pl.Datetime("us", "UTC")}),
            "1 rows have",
        ),
        ("SELECT nothing FROM nowhere", "The entity query cannot be run"),
    ],
)
def test_an_entity_frame_that_cannot_be_joined_is_refused(
    frame: object, message: str, built_platform: Platform
) -> None:
    store = open_store(built_platform.environment)
    with pytest.raises(EntityFrameError, match=message):
        store.get_historical_features(entity_df=frame, features=store.get_feature_service(SERVICE))


def test_poisoning_what_became_known_later_changes_nothing_before(built_platform: Platform) -> None:
    """Whatever is written or known after a moment must not reach a row of that moment."""
    from feature_repo.aggregations import feature_values

    project, now = built_platform.project, built_platform.clock.now()
    groups = [
        g for g in project.table_groups(project.products[SERVICE]) if g.table == "fact_flights" and g.kind != "static"
    ]
    flights = built_platform.lake.scan("curated", "fact_flights").collect()
    for group in groups:
        later = pl.col(group.known_at) > now
        poisoned = flights.with_columns(
            pl.when(later).then(pl.lit(9_999)).otherwise(pl.col(name)).alias(name)
            for name in ("departure_delay_minutes", "arrival_delay_minutes")
        )
        hashes = [
            hashlib.sha256(
                feature_values(group, table.lazy())
                .filter(pl.col("event_timestamp") <= now)
                .collect()
                .write_csv()
                .encode()
            ).hexdigest()
            for table in (flights, poisoned)
        ]
        assert not poisoned.equals(flights)
        assert hashes[0] == hashes[1], group.name


def test_offline_and_online_agree_to_the_last_bit_as_of_now(built_platform: Platform, requests: pl.DataFrame) -> None:
    now, project = built_platform.clock.now(), built_platform.project
    groups = project.table_groups(project.products[SERVICE])
    entities = requests.drop("event_timestamp", "event_day")
    offline = historical_features(
        open_store(built_platform.environment), entities.with_columns(event_timestamp=pl.lit(now)), SERVICE
    ).to_polars()
    read = build_online_features(built_platform.environment, groups).read(join_key_columns(entities, groups), now)
    online = with_features(entities, groups, read)
    for group in groups:
        for name in group.types:
            assert offline[name].equals(online[name], null_equal=True), name


def test_our_online_reader_agrees_with_feasts(built_platform: Platform, requests: pl.DataFrame) -> None:
    project, store = built_platform.project, open_store(built_platform.environment)
    groups = list(project.table_groups(project.products[SERVICE]))
    entities = requests.head(60).select("carrier", "flight", "origin", "dest", "tailnum").drop_nulls()
    # Values of the moment that they were materialized for: nothing has left a window since.
    ours = build_online_features(built_platform.environment, groups).read(
        join_key_columns(entities, groups), built_platform.clock.now()
    )
    for group in groups:
        refs = [f"{group.name}:{name}" for name in group.types]
        rows = entities.select(list(group.join_keys)).to_dicts()
        feasts = store.get_online_features(features=refs, entity_rows=rows).to_dict()
        for name in group.types:
            assert ours.values[name] == feasts[name], name


def test_redis_holds_what_sqlite_holds(
    built_platform: Platform, requests: pl.DataFrame, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.flush()
    project, now = built_platform.project, built_platform.clock.now()
    addresses = {
        "registry": f"sqlite:///{tmp_path}/registry.db",
        "online": RedisOnlineStore(kind="redis", host="127.0.0.1", port=redis_server.port),
    }
    environment = built_platform.environment.model_copy(update={"feature_store": FeatureStoreAddresses(**addresses)})
    store, groups = register_features(environment, project), project.table_groups(project.products[SERVICE])
    for group in groups:
        materialize_group(store, group, now)
    keys = join_key_columns(requests, groups)
    for moment in (now, now + timedelta(hours=5)):
        redis, sqlite = (
            build_online_features(place, groups).read(keys, moment)
            for place in (environment, built_platform.environment)
        )
        assert redis == sqlite


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_feasts_own_command_opens_the_same_store(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    addresses = {
        "sqlite": {"kind": "sqlite", "path": str(tmp_path / "online.db")},
        "redis": {"kind": "redis", "host": "redis.example", "password_secret": "SHOP_REDIS", "tls": True},
    }
    environment = OnlineStoreUnderTest(tmp_path, addresses[kind]).environment
    for name, value in feast_variables(environment).items():
        monkeypatch.setenv(name, value)
    open_store(environment)
    from feast.repo_config import load_repo_config

    config = load_repo_config(FEATURE_STORE_FILE.parent, FEATURE_STORE_FILE)
    from feature_repo.feast_online_stores import writer_of

    assert type(writer_of(config)) is type(build_writer(environment))
    assert "password=" not in feast_variables(environment)["MLWAY_FEAST_ONLINE_STORE"]


def test_values_past_their_ttl_are_missing_online(built_platform: Platform, requests: pl.DataFrame) -> None:
    project = built_platform.project
    groups = project.table_groups(project.products[SERVICE])
    reader = build_online_features(built_platform.environment, groups)
    later = built_platform.clock.now() + timedelta(days=60)
    read = reader.read(join_key_columns(requests, groups), later)
    alive = {group.name for group in groups if not group.time_to_live}
    assert all({group.name for group in groups} - alive <= set(missing) for missing in read.missing)


def test_the_hash_of_definitions_ignores_prose_and_tags_and_sees_windows(built_platform: Platform) -> None:
    project = built_platform.project
    product = project.products[SERVICE]
    group = project.features["route_history"]
    told = {
        name: aggregation.model_copy(update={"description": "In other words.", "tags": ("pii",)})
        for name, aggregation in group.aggregations.items()
    }
    versions = (
        group,
        group.model_copy(update={"description": "In other words.", "owner": None, "tags": ("deprecated",)}),
        group.model_copy(update={"aggregations": told}),
        group.model_copy(update={"windows": (timedelta(days=14),)}),
    )
    same, reworded, retold, widened = (
        definitions_hash(
            type(project)(project.sources, {**project.features, group.name: version}, project.products), product
        )
        for version in versions
    )
    assert same == reworded == retold != widened


def test_feasts_registry_says_what_each_feature_is_and_who_uses_it(built_platform: Platform) -> None:
    store = open_store(built_platform.environment)
    view = store.get_feature_view("route_history")
    field = next(field for field in view.features if field.name == "route_late_share_28d")
    assert field.description == "Share of arrivals 15 or more minutes late."
    assert field.tags == {
        "owner": "team:flight-operations",
        "formula": "rate(arrival_delay_minutes >= 15)",
        "window": "28d",
        "products": "arrival_delay, flight_delay, flight_ranking",
    }
    assert (
        view.tags.items()
        >= {"entity": "route", "kind": "windowed", "products": "arrival_delay, flight_delay, flight_ranking"}.items()
    )
    on_demand = store.get_on_demand_feature_view("departure_request")
    assert on_demand.tags["aircraft_age_years"] == "Years since the aircraft was built."
