"""A small platform that the whole graph runs on: six weeks of real flights, with its own configuration and state."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import hypothesis
import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["TZ"] = "UTC"

from bad_day_support import Delivered, build_delivered, copy_delivered
from online_support import OnlineStoreUnderTest
from servers import PostgresqlServer, RedisServer, s3_server
from tests_support import move_paths, open_small_platform, write_small_configs

from feature_repo.store import register_features
from mlway_assets.local.graph import plan, run_jobs
from mlway_assets.local.instance import open_instance
from mlway_assets.local.paths import local_paths
from mlway_assets.resources import Platform

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("mlway", deadline=None)
hypothesis.settings.load_profile("mlway")


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(("MLWAY_", "DAGSTER_"))}
    yield
    os.environ.update(kept)


@pytest.fixture(autouse=True)
def _no_settings_are_left() -> Iterator[None]:
    """The command line keeps what it was told in the environment, for the processes that it starts."""
    before = {name: value for name, value in os.environ.items() if name.startswith("MLWAY_")}
    yield
    for name in [name for name in os.environ if name.startswith("MLWAY_")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def built_platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The whole graph, materialized once. Tests read it; one that writes makes its own copy of the state."""
    root = tmp_path_factory.mktemp("small")
    platform = open_small_platform(write_small_configs(root / "configs", root / "state"))
    instance = open_instance(local_paths(platform.environment))
    run_jobs(platform, instance, plan(platform, ["ingest", "train", "predict", "monitor"]), lambda *_: None)
    instance.dispose()
    return platform


@pytest.fixture(scope="session")
def trained_again(built_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A copy of the built state in which every product was trained once more, on the same data."""
    with _copy(built_platform, tmp_path_factory.mktemp("trained_again")) as (platform, instance):
        run_jobs(platform, instance, plan(platform, ["train"]), lambda *_: None)
        yield platform


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis server. Tests that stop it start one of their own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """An S3 server that knows no accounts."""
    with s3_server() as address:
        yield address


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server. Tests that stop it start one of their own."""
    server = PostgresqlServer()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "redis"])
def online(request: pytest.FixtureRequest, tmp_path: Path) -> OnlineStoreUnderTest:
    """An empty online store of each kind in turn."""
    if request.param == "sqlite":
        return OnlineStoreUnderTest(tmp_path, {"kind": "sqlite", "path": str(tmp_path / "online.db")})
    server: RedisServer = request.getfixturevalue("redis_server")
    server.flush()
    return OnlineStoreUnderTest(tmp_path, {"kind": "redis", "host": "127.0.0.1", "port": server.port})


@pytest.fixture
def copied(built_platform: Platform, tmp_path: Path) -> Iterator[tuple[Platform, dg.DagsterInstance]]:
    """A copy of the built state and its configuration, free to be changed."""
    with _copy(built_platform, tmp_path) as copy:
        yield copy


@pytest.fixture(scope="session")
def built_deliveries(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    """A smaller platform whose flights come as a file for each day, built up to the clock's day."""
    built = build_delivered(tmp_path_factory.mktemp("delivered"))
    built.instance.dispose()
    return built


@pytest.fixture
def delivered(built_deliveries: Delivered, tmp_path: Path) -> Iterator[Delivered]:
    """A copy of it, free to be changed."""
    copy = copy_delivered(built_deliveries, tmp_path)
    yield copy
    copy.instance.dispose()


@contextmanager
def _copy(built_platform: Platform, folder: Path) -> Iterator[tuple[Platform, dg.DagsterInstance]]:
    configs = write_small_configs(folder / "configs", folder / "state")
    shutil.copytree(built_platform.environment.state, folder / "state")
    move_paths(built_platform.environment.state, folder / "state")
    platform = open_small_platform(configs)
    register_features(platform.environment, platform.project)
    instance = open_instance(local_paths(platform.environment))
    yield platform, instance
    instance.dispose()
