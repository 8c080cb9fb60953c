"""The platform as a user starts it: one command, real services, real requests. Everything on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import polars as pl
import psutil
import pytest
from hostile_messages import send_anything
from hostile_requests import ask_for_everything
from protocol_clients import scores_by_protocol

from configs.environments import Ports
from configs.load import load_environment, load_project
from configs.products import Endpoint
from mlway_assets.local.paths import local_paths
from mlway_assets.local.process_manager import ProcessManager, wait_until
from mlway_assets.local.services import DAEMON
from mlway_assets.registry import Registry
from mlway_assets.resources import Platform
from serving.open_inference import ProductTensors
from serving.open_inference_grpc import infer_request_message
from serving.scoring import MOST_SINGLE_ROWS

MLWAY = str(Path(sys.executable).parent / "mlway")
PRODUCT = "flight_delay"
PRODUCTS = ("flight_delay", "arrival_delay", "flight_ranking")
QUALITY = {
    "test_roc_auc": (0.75, 1.0),
    "test_mae": (0.0, 19.5),
    "test_coverage": (0.75, 0.87),
    "test_ndcg_at_5": (0.85, 1.0),
}
PORTS = {"serve": 18000, "dagster": 13000, "mlflow": 15000, "ray_dashboard": 18265, "ray_head": 16399}
PORTS |= {"haproxy_metrics": 19101, "haproxy_stats": 18404, "grpc": 18001}


class Live:
    """A running platform and the command line pointed at it."""

    report: dict[str, Any]
    """What `mlway up --json` printed."""

    def __init__(self, state: Path) -> None:
        self.state = state
        ports = ",".join(f"{name}={number}" for name, number in PORTS.items())
        self.variables = os.environ | {"MLWAY_STATE": str(state), "MLWAY_PORTS": ports}
        self.endpoint = self.endpoint_of(PRODUCT)

    @staticmethod
    def endpoint_of(product: str) -> str:
        return f"http://127.0.0.1:{PORTS['serve']}/{product.replace('_', '-')}"

    def run(self, *words: str, timeout: int = 400) -> subprocess.CompletedProcess[str]:
        command = [MLWAY, *words]
        return subprocess.run(command, env=self.variables, capture_output=True, text=True, timeout=timeout, check=False)

    def platform(self) -> Platform:
        environment = load_environment("local").model_copy(update={"ports": Ports(**PORTS)})
        text = environment.model_dump_json().replace(str(environment.state), str(self.state))
        return Platform(load_project(), type(environment).model_validate_json(text))

    def ask(
        self, path: str, product: str = PRODUCT, *, headers: Mapping[str, str] = MappingProxyType({}), **content: Any
    ) -> httpx.Response:
        """A request with the local key; with content, a POST."""
        headers = {"Authorization": f"Bearer {self.key}", **headers}
        method = "POST" if content else "GET"
        return httpx.request(method, self.endpoint_of(product) + path, headers=headers, timeout=30, **content)

    @property
    def key(self) -> str:
        """The local key."""
        return (self.state / "keys" / "local").read_text().strip()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    platform = Live(tmp_path_factory.mktemp("live") / "state")
    up = platform.run("up", "--detach", "--json")
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        platform.report = json.loads(up.stdout.splitlines()[-1])
        yield platform
    finally:
        down = platform.run("down")
    assert down.returncode == 0, down.stderr
    assert not [process for process in psutil.process_iter() if _belongs(process, platform.state)]


def _belongs(process: psutil.Process, state: Path) -> bool:
    try:
        return process.environ().get("MLWAY_STATE") == str(state) and process.pid != os.getpid()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def test_up_ends_with_a_prediction_of_the_champion(live: Live) -> None:
    answer = live.report["answer"]
    assert answer["model"] == {"name": PRODUCT, "version": 1}
    assert 0 < answer["predictions"][0]["score"] < 1


def test_every_model_reaches_its_quality_line_and_answers(live: Live) -> None:
    status = json.loads(live.run("status", "--json").stdout)
    assert status["products"].keys() == set(PRODUCTS)
    for name, product in status["products"].items():
        assert product["champion"]["version"] == product["serving"] == 1, name
        assert product["endpoint"] == live.endpoint_of(name)
        assert f"test_{product['metric']}" in product["champion"]["metrics"]
        for metric, value in product["champion"]["metrics"].items():
            least, most = QUALITY.get(metric, (value, value))
            assert least <= value <= most, (name, metric, value)
    assert {service["state"] for service in status["services"].values()} == {"running"}


@pytest.fixture(scope="module")
def batch(live: Live) -> dict[str, pl.DataFrame]:
    """Each product's batch predictions of days that are still to come: their features are as of now."""
    done = live.run("materialize", "predict", "--from", "2013-10-01", "--to", "2013-10-11")
    assert done.returncode == 0, done.stderr
    return {name: live.platform().lake.scan("predictions", name).collect() for name in PRODUCTS}


@pytest.mark.parametrize(("name", "count"), [(PRODUCT, 10_000), ("arrival_delay", 2_000), ("flight_ranking", 2_000)])
def test_ten_thousand_flights_score_by_every_protocol_as_in_the_batch_to_the_last_bit(
    name: str, count: int, live: Live, batch: dict[str, pl.DataFrame]
) -> None:
    product, key = live.platform().project.products[name], (live.state / "keys" / "local").read_text().strip()
    rows = batch[name].sample(count, seed=7)
    assert rows["event_timestamp"].n_unique() == 1
    assert rows["score"].n_unique() > 50
    fields = rows.select(*product.population.request).with_columns(pl.col(pl.Datetime).dt.to_string("iso:strict"))
    scores: dict[str, list[float]] = {}
    for part in _parts(fields):
        columns = part.to_dict(as_series=False)
        for protocol, found in scores_by_protocol(
            product, columns, key, serve=PORTS["serve"], grpc_port=PORTS["grpc"]
        ).items():
            scores.setdefault(protocol, []).extend(found)
    assert scores.keys() == {"predict", "v1", "v2", "grpc", "grpc raw"}
    for protocol, found in scores.items():
        assert found == rows["score"].to_list(), protocol


def _parts(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows as requests carry them: a few small ones, which are scored by another call, then as many as may be."""
    start = 0
    for size in (1, MOST_SINGLE_ROWS, MOST_SINGLE_ROWS + 1, 100):
        yield rows[start : start + size]
        start += size
    yield from rows[start:].iter_slices(Endpoint().max_instances)


def test_an_unknown_aircraft_gets_an_answer_that_names_what_is_missing(live: Live) -> None:
    instance = live.report["request"]["instances"][0] | {"tailnum": "N0SUCH"}
    response = live.ask("/predict", json={"instances": [instance]})
    prediction = response.json()["predictions"][0]
    assert set(prediction["missing"]) == {"aircraft", "aircraft_departures", "aircraft_legs"}
    assert 0 < prediction["score"] < 1


@pytest.mark.parametrize("body", ["{", "[]", '{"instances": [{"carrier": 1}]}', '{"instances": "x"}'])
def test_a_malformed_body_is_a_problem_document(live: Live, body: str) -> None:
    response = live.ask("/predict", content=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in response.text
    assert response.json()["status"] == 422


@pytest.mark.parametrize(("path", "status"), [("/model", 200), ("/health", 200), ("/ready", 200), ("/nothing", 404)])
def test_the_other_routes_answer(live: Live, path: str, status: int) -> None:
    assert live.ask(path).status_code == status


def test_whatever_the_openapi_document_allows_or_forbids_is_answered_as_it_says_and_never_with_5xx(live: Live) -> None:
    address = f"http://127.0.0.1:{PORTS['serve']}"
    document = httpx.get(f"{address}/openapi.json", timeout=30).json()
    # It may not train: what it asks is answered all the same, with 403, and opens no training.
    made = live.run("key", "create", "anything", "--scope", "*:predict", "--scope", "*:explain", "--json")
    key = json.loads(made.stdout)["key"]
    headers = {"Authorization": f"Bearer {key}"}
    assert wait_until(lambda: live.ask("/model", headers=headers).status_code == 200, 30), "no replica knows the key"
    assert ask_for_everything(address, document, headers, examples=20) > 500


def test_no_message_makes_the_grpc_server_fail(live: Live) -> None:
    product = live.platform().project.products[PRODUCT]
    columns = {name: [value] for name, value in live.report["request"]["instances"][0].items()}
    message = infer_request_message(PRODUCT, ProductTensors(product).tensors(columns), raw=False)
    metadata = {"authorization": f"Bearer {live.key}"}
    codes = send_anything(f"127.0.0.1:{PORTS['grpc']}", message.SerializeToString(), metadata, examples=200)
    assert codes.keys() == {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}


@pytest.mark.parametrize("value", ["1016", 10**400, 2**63, 10.5, True, float("nan"), float("-inf"), {"a": [[]]}])
def test_a_wrong_value_is_a_422_that_names_the_field(live: Live, value: Any) -> None:
    instance = live.report["request"]["instances"][0] | {"flight": value}
    response = live.ask("/predict", content=json.dumps({"instances": [instance]}))
    assert response.status_code == 422
    assert "/instances/0/flight" in [error["pointer"] for error in response.json()["errors"]]


def test_a_missing_field_is_named(live: Live) -> None:
    instance = dict(live.report["request"]["instances"][0])
    del instance["carrier"]
    response = live.ask("/predict", json={"instances": [instance]})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == ["/instances/0/carrier"]


def test_an_unknown_field_is_named_and_begins_no_line_of_the_log(live: Live) -> None:
    name = 'evil\n{"status": 200}\x1b[2J'
    response = live.ask("/predict", json={"instances": [live.report["request"]["instances"][0] | {name: 1}]})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [f"/instances/0/{name}"]
    log = live.state / "logs" / f"requests_{PRODUCT}.jsonl"
    assert wait_until(lambda: "evil" in log.read_text(encoding="utf-8"), 20)
    [line] = [line for line in log.read_text(encoding="utf-8").split("\n") if "evil" in line]
    assert json.loads(line)["status"] == 422
    assert line.isprintable()


def test_bodies_that_are_too_large_too_deep_or_of_another_type_are_refused(live: Live) -> None:
    assert live.ask("/predict", content=b" " * 100_000_000).status_code == 413
    assert live.ask("/predict", content=iter([b" " * 1_000_000] * 20)).status_code == 413
    assert live.ask("/predict", content=b"[" * 900_000).status_code == 422
    for header in ({"Content-Type": "text/csv"}, {"Content-Encoding": "gzip"}):
        assert live.ask("/predict", content=b"{}", headers=header).status_code == 415
    assert live.ask("/ready").status_code == 200


def test_without_a_key_nothing_is_answered_but_whether_it_is_up(live: Live) -> None:
    for path, status in {"/predict": 401, "/model": 401, "/health": 200, "/ready": 200}.items():
        method = "POST" if path == "/predict" else "GET"
        response = httpx.request(
            method, live.endpoint + path, headers={"X-API-Key": "mlway_0_0"} if status == 401 else {}
        )
        assert response.status_code == status
    refused = httpx.post(f"{live.endpoint}/predict", json={})
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


def test_pages_of_dagster_and_mlflow_answer(live: Live) -> None:
    query = {"query": "{assetNodes{assetKey{path}}}"}
    graph = httpx.post(f"http://127.0.0.1:{PORTS['dagster']}/graphql", json=query, timeout=60).json()
    assert ["curated", "fact_flights"] in [node["assetKey"]["path"] for node in graph["data"]["assetNodes"]]
    assert httpx.get(f"http://127.0.0.1:{PORTS['mlflow']}/", timeout=30).status_code == 200


def test_services_listen_on_loopback_only(live: Live) -> None:
    """A replica's port for calls by other replicas is the exception: it asks for the cluster's token."""
    processes = [process for process in psutil.process_iter() if _belongs(process, live.state)]
    listening = [
        (connection.laddr.ip, connection.laddr.port)
        for process in processes
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    everywhere = {port for ip, port in listening if ip in ("0.0.0.0", "::")}
    assert not everywhere & {*PORTS.values()}
    assert len(everywhere) <= 2 * (len(live.platform().project.products) + 1), "the gateway has a replica too"


def test_a_moved_alias_reaches_the_endpoint_and_a_broken_version_does_not(live: Live) -> None:
    registry = live.platform().registry
    second = registry.register(PRODUCT, registry.require_champion(PRODUCT).run_id)
    assert second.version == 1
    done = live.run("materialize", "train", "--product", PRODUCT)
    assert done.returncode == 1
    assert "gate_champion" in done.stderr, "the same model again is no better"
    assert registry.register(PRODUCT, newest_run(registry)).version == 2  # what the gate keeps the graph from
    registry.promote(PRODUCT, 2)
    try:
        assert wait_until(lambda: _version(live) == 2, 120), "the sensor did not bring version 2"
    finally:
        registry.promote(PRODUCT, 1)
    assert wait_until(lambda: _version(live) == 1, 120)


def test_twenty_calls_for_a_training_start_one(live: Live) -> None:
    calls = [live.ask("/train", "arrival_delay", json={"reason": f"call {number}"}) for number in range(20)]
    assert [call.status_code for call in calls] == [202] * 20
    assert wait_until(lambda: any(run["status"] in ("SUCCESS", "FAILURE") for run in trainings(live)), 300)
    folder = live.state / "training_requests" / "arrival_delay"
    assert wait_until(lambda: not list(folder.glob("*.json")), 90), "some wait still"
    [run] = trainings(live)
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert "call 0" in tags["mlway/reason"]
    assert set(tags["mlway/requests"].split(",")) == {call.json()["request"] for call in calls}


def test_a_daemon_that_is_killed_forgets_no_request_and_answers_none_twice(live: Live) -> None:
    manager = ProcessManager(local_paths(live.platform().environment))
    daemon = manager.states()[DAEMON].process
    assert daemon is not None
    asked = [live.ask("/train", "arrival_delay", json={"reason": "before"}).json()["request"]]
    assert wait_until(lambda: asked[0] in answered_by_run(live), 120)
    os.kill(daemon, signal.SIGKILL)
    asked.append(live.ask("/train", "arrival_delay", json={"reason": "meanwhile"}).json()["request"])
    assert wait_until(lambda: set(asked) <= set(answered_by_run(live)), 180)
    folder = live.state / "training_requests" / "arrival_delay"
    assert wait_until(lambda: not list(folder.glob("*.json")), 90), "some wait still"
    assert wait_until(lambda: {run["status"] for run in trainings(live)} <= {"SUCCESS", "FAILURE"}, 300)
    assert [answered_by_run(live).count(request) for request in asked] == [1, 1]
    assert manager.states()[DAEMON].process not in (None, daemon)


def answered_by_run(live: Live) -> list[str]:
    """The requests that runs were opened for, or have joined, as often as they are named."""
    tags = [tag for run in trainings(live) for tag in run["tags"] if tag["key"] == "mlway/requests"]
    return [name for tag in tags for name in tag["value"].split(",")]


def trainings(live: Live) -> list[dict[str, Any]]:
    """What Dagster says of the runs that were opened for somebody."""
    query = """{ runsOrError(filter: {tags: [{key: "mlway/product", value: "arrival_delay"}]}) {
      ... on Runs { results { status tags { key value } } } } }"""
    found = httpx.post(f"http://127.0.0.1:{PORTS['dagster']}/graphql", json={"query": query}, timeout=30).json()
    runs: list[dict[str, Any]] = found["data"]["runsOrError"]["results"]
    return runs


def newest_run(registry: Registry) -> str:
    experiment = registry.client.get_experiment_by_name(PRODUCT)
    [run] = registry.client.search_runs(
        [experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=1
    )
    return str(run.info.run_id)


def _version(live: Live) -> int | None:
    version: int | None = live.ask("/model").json()["model"].get("version")
    return version


def test_a_second_up_finds_everything_running(live: Live) -> None:
    again = live.run("up", "--detach")
    assert again.returncode == 0, again.stderr
    assert "The services run already." in again.stdout
    assert f"The graph is complete for {PRODUCT}." in again.stdout
    assert "The graph is complete for arrival_delay, flight_ranking." in again.stdout


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    other = Live(tmp_path / "state")
    # Every other port is free, whether or not another platform runs.
    other.variables["MLWAY_PORTS"] = ",".join(f"{name}={n + 1000}" for name, n in PORTS.items())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        up = other.run("up", "--detach", "--port", f"dagster={number}")
    assert up.returncode == 1
    assert f"Port {number} (dagster) is in use" in up.stderr
    assert "--port" in up.stderr
    assert not (tmp_path / "state" / "run").exists()


def test_a_killed_service_comes_back_and_the_endpoint_with_it(live: Live) -> None:
    state = json.loads(live.run("status", "--json").stdout)
    os.kill(state["services"]["mlflow"]["process"], signal.SIGKILL)
    page = f"http://127.0.0.1:{PORTS['mlflow']}/"

    def answers() -> bool:
        try:
            return httpx.get(page).status_code == 200
        except httpx.TransportError:
            return False

    assert wait_until(answers, 60)
