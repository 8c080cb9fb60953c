"""An endpoint while its online store is gone, and after it is back: the replica's own code behind a real server.

Ray is left out: it starts replicas and passes requests on, and has no part in what they answer.
"""

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import polars as pl
import pytest
import uvicorn
import yaml
from servers import RedisServer
from starlette.requests import Request
from tests_support import open_small_platform, write_small_configs

import serving.app
from configs.features import RequestFeatures
from feature_repo.store import materialize_group, register_features
from mlway_assets.local.local_key import local_key
from mlway_assets.local.process_manager import wait_until
from mlway_assets.resources import Platform
from serving.app import AppArgs, ProductEndpoint
from serving.decision_segments import SegmentContent, list_segments

ANSWERS, REFUSES = "flight_delay", "arrival_delay"
POLICIES = {ANSWERS: "answer", REFUSES: "refuse"}
ROWS = 3


@dataclass
class Served:
    """Two products behind one HTTP server, and their Redis."""

    platform: Platform
    redis: RedisServer
    address: str
    instances: list[dict[str, Any]]

    def ask(self, product: str) -> httpx.Response:
        route = self.platform.project.products[product].route
        headers = {"Authorization": f"Bearer {local_key(self.platform.environment)}"}
        body = {"instances": self.instances}
        return httpx.post(f"{self.address}{route}/predict", json=body, headers=headers, timeout=10)

    def materialize(self) -> None:
        """Everything from the lake into the online store."""
        store = register_features(self.platform.environment, self.platform.project)
        for group in self.platform.project.features.values():
            if not isinstance(group, RequestFeatures):
                materialize_group(store, group, self.platform.clock.now())

    @property
    def views(self) -> set[str]:
        """The feature views that the product needs."""
        return {group.name for group in self.platform.project.table_groups(self.platform.project.products[ANSWERS])}

    def degraded_in_the_log(self, decision: str) -> list[str]:
        """What the decision log says was not there when this was answered."""
        segments = list_segments(self.platform.environment.decisions_folder, ANSWERS)
        records = [logged.record for segment in segments for logged in SegmentContent(segment).records()]
        [found] = [record.decision for record in records if record.decision.id == decision]
        return found.degraded


@pytest.fixture(scope="module")
def served(built_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("redis_gone")
    redis = RedisServer(folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            configs = write_configs(folder, built_platform, redis.port)
            patch.setenv("MLWAY_CONFIGS", str(configs))
            platform = open_small_platform(configs)
            local_key(platform.environment)  # before the replicas, which read the keys as they start
            replicas = {
                platform.project.products[name].route: replica(platform, name, built_platform, patch)
                for name in POLICIES
            }
            with http_server(replicas) as address:
                served = Served(platform, redis, address, some_instances(built_platform))
                served.materialize()
                yield served
    finally:
        redis.kill()


def write_configs(folder: Path, built: Platform, port: int) -> Path:
    """The small platform's configuration with its features in Redis; its lake and models are the built ones."""
    configs = write_small_configs(folder / "configs", folder / "state")
    environment_file = configs / "environments" / "local.yaml"
    environment = yaml.safe_load(environment_file.read_text(encoding="utf-8"))
    environment |= {"lake": {"uri": built.environment.lake.uri}, "model_store": built.environment.model_store}
    environment["feature_store"]["online"] = {"kind": "redis", "host": "127.0.0.1", "port": port}
    environment_file.write_text(yaml.safe_dump(environment), encoding="utf-8")
    for name, policy in POLICIES.items():
        product_file = configs / "products" / f"{name}.yaml"
        product = yaml.safe_load(product_file.read_text(encoding="utf-8"))
        product_file.write_text(
            yaml.safe_dump(product | {"endpoint": {"without_online_store": policy}}), encoding="utf-8"
        )
    return configs


def replica(platform: Platform, name: str, built: Platform, patch: pytest.MonkeyPatch) -> ProductEndpoint:
    """A replica with the product's champion."""
    identity = SimpleNamespace(replica_id=SimpleNamespace(unique_id=f"{name}-1"))
    patch.setattr(serving.app.serve, "get_replica_context", lambda: identity)
    endpoint = ProductEndpoint(AppArgs(product=name, environment=platform.environment.name))
    champion = built.registry.require_champion(name)
    endpoint.reconfigure({"version": champion.version, "digest": champion.digest})
    return endpoint


def some_instances(platform: Platform) -> list[dict[str, Any]]:
    """The first flights after now."""
    population = platform.project.products[ANSWERS].population
    later = pl.col(population.event_time) > platform.clock.now()
    table = platform.lake.scan("curated", population.table).filter(later).sort(population.event_time)
    rows = table.select(*population.request).drop_nulls().head(ROWS).collect()
    return rows.with_columns(pl.col(population.event_time).dt.to_string("iso:strict")).to_dicts()


@contextmanager
def http_server(replicas: Mapping[str, ProductEndpoint]) -> Iterator[str]:
    """The address of a server that gives each request to the replica of its route."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        response = await replicas["/" + request.url.path.split("/")[1]](request)
        await response(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def kill(redis: RedisServer) -> None:
    redis.kill()


def hang(redis: RedisServer) -> None:
    """It still takes connections, and says nothing."""
    redis.process.send_signal(signal.SIGSTOP)


def start_empty(served: Served) -> None:
    served.redis.start()
    assert wait_until(lambda: "degraded" not in served.ask(ANSWERS).json(), 20)
    for prediction in served.ask(ANSWERS).json()["predictions"]:
        assert set(prediction["missing"]) == served.views, "an empty store has nothing to say, and so it is said"
    served.materialize()


def wake(served: Served) -> None:
    served.redis.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(("lose", "bring_back"), [(kill, start_empty), (hang, wake)])
def test_without_redis_each_product_does_what_it_declares_and_is_whole_again_after_it(
    lose: Callable[[RedisServer], None], bring_back: Callable[[Served], None], served: Served
) -> None:
    whole = {name: served.ask(name).json() for name in POLICIES}
    assert all("degraded" not in answer for answer in whole.values())
    lose(served.redis)
    for _ in range(3):  # the first finds it gone, the others know
        answer, refusal = served.ask(ANSWERS), served.ask(REFUSES)
        assert answer.status_code == 200
        assert answer.json()["degraded"] == ["redis"]
        assert answer.json()["model"] == whole[ANSWERS]["model"]
        assert all(set(prediction["missing"]) == served.views for prediction in answer.json()["predictions"])
        assert served.degraded_in_the_log(answer.json()["decision"]) == ["redis"]
        assert refusal.status_code == 503
        assert refusal.headers["content-type"] == "application/problem+json"
        assert int(refusal.headers["retry-after"]) >= 1
    bring_back(served)
    for name, before in whole.items():
        assert wait_until(lambda name=name, before=before: is_as_before(served.ask(name), before), 20), name


def is_as_before(response: httpx.Response, before: dict[str, Any]) -> bool:
    """Whether an answer is the one of before, but for its decision's id."""
    return response.status_code == 200 and response.json() | {"decision": ""} == before | {"decision": ""}
