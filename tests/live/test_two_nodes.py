"""Endpoints on two nodes of a Ray cluster, which differ from those of one by the environment file alone.

Both nodes are on this machine, at one loopback address; `serve deploy` is given what `mlway serve-config` wrote.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import yaml
from tests_support import write_small_configs

from configs.environments import Environment
from configs.load import load_environment, load_project
from mlway_assets.local.local_key import local_key
from mlway_assets.local.paths import local_paths
from mlway_assets.local.process_manager import ProcessManager, wait_until
from mlway_assets.resources import Platform
from mlway_assets.rollout import desired_versions, roll_out_versions
from serving.decision_segments import SegmentContent, list_segments
from serving.deploy import ServeApi

PROGRAMS = Path(sys.executable).parent
PRODUCT = "flight_delay"
ADDRESS = "127.0.0.2"  # Ray replaces 127.0.0.1 by an outside address where nodes may join
HEAD, OTHER = "head", "other"
PORTS = {
    HEAD: "serve=17000,ray_dashboard=17265,ray_head=17399,haproxy_metrics=17101,haproxy_stats=17104",
    OTHER: "serve=17000,ray_dashboard=17265,ray_head=14399,haproxy_metrics=14101,haproxy_stats=14104",
}
SERVE_PORTS = {HEAD: 17000, OTHER: 14000}
REQUESTS = 40


class Cluster:
    """Two nodes, and what an operator does with them."""

    def __init__(self, folder: Path, built: Platform) -> None:
        self._folder = folder
        self._token = secrets.token_hex(32)
        self._nodes: list[subprocess.Popen[bytes]] = []
        write_cluster_configs(folder / "configs", folder, built.environment)

    def variables(self, node: str) -> dict[str, str]:
        """Of a node's commands."""
        return os.environ | {
            "MLWAY_CONFIGS": str(self._folder / "configs"),
            "MLWAY_STATE": str(self._folder / node),
            "MLWAY_PORTS": PORTS[node],
            "CLUSTER_TOKEN": self._token,
            # Two nodes on one machine cannot listen on one port.
            "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(SERVE_PORTS[OTHER]),
        }

    def start(self, node: str, *words: str) -> None:
        with (self._folder / f"{node}.log").open("wb") as output:
            command = [str(PROGRAMS / "mlway"), "node", "--address", ADDRESS, *words]
            self._nodes.append(
                subprocess.Popen(command, env=self.variables(node), stdout=output, stderr=subprocess.STDOUT)
            )

    def run(self, program: str, *words: str) -> None:
        variables = self.variables(HEAD) | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        command = [str(PROGRAMS / program), *words]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        for node in reversed(self._nodes):
            node.terminate()
            node.wait(60)
        for name in (HEAD, OTHER):
            ProcessManager(local_paths(load_environment().model_copy(update={"state": self._folder / name}))).stop()


def write_cluster_configs(configs: Path, folder: Path, built: Environment) -> None:
    """What nodes share lies where all see it; the state folder is each node's own."""
    write_small_configs(configs, built.state)
    for product in (configs / "products").glob("*.yaml"):
        if product.stem != PRODUCT:
            product.unlink()
    file = configs / "products" / f"{PRODUCT}.yaml"
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["endpoint"] = {"min_replicas": 2, "max_replicas": 2, "max_replicas_per_node": 1}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    file = configs / "environments" / "local.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8").replace("{state}", str(built.state)))
    content["ray"] = {
        "ingress": "every_node",
        "dashboard": f"http://{ADDRESS}:17265",
        "token_secret": "CLUSTER_TOKEN",
    }
    content["decisions"] = {"folder": str(folder / "decisions")}
    content["training_requests"] = str(folder / "training_requests")
    content["access"] = {"database": f"sqlite:///{folder / 'access.db'}"}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture
def cluster(tmp_path: Path, built_platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, built_platform)
    for name, value in cluster.variables(HEAD).items():
        monkeypatch.setenv(name, value)
    try:
        yield cluster
    finally:
        cluster.stop()


def test_two_nodes_serve_what_the_generated_file_declares(
    cluster: Cluster, built_platform: Platform, tmp_path: Path
) -> None:
    environment = load_environment()
    api, key = ServeApi(environment, local_paths(environment).ray_token), local_key(environment)
    cluster.start(HEAD)
    assert wait_until(api.is_up, 120), (tmp_path / "head.log").read_text(encoding="utf-8")
    cluster.start(OTHER, "--join", f"{ADDRESS}:17399")
    cluster.run("mlway", "serve-config", "--output", str(tmp_path / "serve.yaml"))
    cluster.run("serve", "deploy", "--address", environment.dashboard_address, str(tmp_path / "serve.yaml"))

    assert wait_until(lambda: len(running_nodes(api)) == 2, 180), api.applications()
    as_of_now = pl.col("event_timestamp") == built_platform.clock.now()
    flights = built_platform.lake.scan("predictions", PRODUCT).filter(as_of_now).head(REQUESTS).collect()
    assert len(flights) == REQUESTS
    for port in SERVE_PORTS.values():
        assert wait_until(lambda port=port: answers(port), 60), f"nothing answers at {port}"
        assert scores(flights, port, key) == flights["score"].to_list()
    segments = list_segments(environment.decisions_folder, PRODUCT)
    answered = {segment.replica: sum(1 for _ in SegmentContent(segment).records()) for segment in segments}
    assert len(answered) == 2
    assert sum(answered.values()) == 2 * REQUESTS
    assert min(answered.values()) > 0

    # What follows the registry finds what the file has declared, and changes it in place.
    platform = Platform(load_project(), environment)
    assert roll_out_versions(platform, api, desired_versions(platform)) == []
    assert roll_out_versions(platform, api, {PRODUCT: None}) == [f"{PRODUCT}: baseline"]
    for port in SERVE_PORTS.values():
        assert wait_until(lambda port=port: served(port) == {"name": "baseline"}, 60), served(port)


def running_nodes(api: ServeApi) -> set[str]:
    """The nodes on which a replica of the product runs."""
    deployments = api.applications().get(PRODUCT, {}).get("deployments", {}).values()
    replicas = [replica for deployment in deployments for replica in deployment["replicas"]]
    return {replica["node_id"] for replica in replicas if replica["state"] == "RUNNING"}


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/flight-delay/ready", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def served(port: int) -> Any:
    return httpx.get(f"http://127.0.0.1:{port}/flight-delay/ready", timeout=5).json()["model"]


def scores(flights: pl.DataFrame, port: int, key: str) -> list[float]:
    """Each row's score, asked for on a connection of its own."""
    found = []
    for row in flights.select("carrier", "flight", "origin", "dest", "tailnum", "scheduled_departure").to_dicts():
        instance = row | {"scheduled_departure": row["scheduled_departure"].isoformat()}
        response = httpx.post(
            f"http://127.0.0.1:{port}/flight-delay/predict",
            json={"instances": [instance]},
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        assert response.status_code == httpx.codes.OK, response.text
        found.append(response.json()["predictions"][0]["score"])
    return found
