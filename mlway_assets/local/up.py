"""Bring everything up on one machine: services, what is missing in the graph, endpoints, and a first prediction."""

import json
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from time import perf_counter, sleep
from typing import Any

import httpx

from configs.errors import MlwayError
from configs.products import ModelProduct
from mlway_assets.local.graph import RunError, missing_jobs, plan, run_jobs
from mlway_assets.local.instance import open_instance
from mlway_assets.local.local_key import local_key
from mlway_assets.local.paths import local_paths
from mlway_assets.local.process_manager import ProcessManager, ServiceError, wait_until
from mlway_assets.local.services import build_services, prepare, required_ports
from mlway_assets.resources import Platform
from mlway_assets.rollout import desired_versions, open_serve_api, roll_out_code
from mlway_assets.tracking_database import ensure_tracking_database
from serving.deploy import ServeError, failure

START_SECONDS = 180
Say = Callable[[str], None]
OnStep = Callable[[str, str, str], None]


class PortInUseError(MlwayError):
    """A port that a service needs is taken."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(
            f"Port {number} ({name}) is in use.\n"
            "Hint: end what uses it, or choose another: "
            f"`mlway up --port {name.split('+', maxsplit=1)[0]}={number + 20}`."
        )


class ClusterElsewhereError(MlwayError):
    """The environment's endpoints do not run on this machine alone."""

    def __init__(self, environment: str, address: str) -> None:
        super().__init__(
            f"The environment {environment!r} serves on the Ray cluster of {address}; `mlway up` starts everything on "
            "this machine.\nHint: run `mlway node` on each node, and deploy what `mlway serve-config` writes."
        )


@dataclass(frozen=True)
class UpReport:
    """What `up` did: how long until the first answer, how much of that the graph computed, and the exchange.

    Without a product there is no exchange, and `answer_seconds` last until everything was up.
    """

    answer_seconds: float
    graph_seconds: float
    product: str | None
    request: dict[str, Any]
    answer: dict[str, Any]
    key_file: str
    """Where the key lies that the request was sent with."""


def bring_up(platform: Platform, say: Say, on_step: OnStep) -> UpReport:
    """Start what does not run, build what is missing, deploy, and ask for one prediction.

    The first product is trained, deployed and asked before the others are trained: until then these answer with their
    baselines. Raises ClusterElsewhereError, PortInUseError, ServiceError, RunError, ServeError.
    """
    began = perf_counter()
    if platform.environment.ray.dashboard is not None:
        raise ClusterElsewhereError(platform.environment.name, platform.environment.ray.dashboard)
    first, rest = products_in_order(platform)
    paths = local_paths(platform.environment)
    manager, given_up = ProcessManager(paths), Event()
    local_key(platform.environment)  # before the replicas, which read the keys as they start
    if manager.is_running():
        say("The services run already.")
    else:
        _start_services(platform, manager, say)
    try:
        with ThreadPoolExecutor(1) as background:
            # Endpoints come up with what there is, or the baseline, while the graph is computed.
            early = background.submit(_deploy_and_start_rest, platform, manager, given_up)
            try:
                graph_seconds = _build_missing(platform, first, say, on_step)
            except BaseException:
                given_up.set()
                raise
            early.result()
        _deploy(platform, manager, given_up)
        report = _first_prediction(platform, first, began, graph_seconds)
        if rest:
            say(f"{report.product} answered after {report.answer_seconds:.0f} s.")
            _build_missing(platform, rest, say, on_step)
            _deploy(platform, manager, given_up)
        _wait_for_pages(platform, manager)
        return report
    except MlwayError:
        say(f"The logs are in {paths.logs}.")
        raise


def _wait_for_pages(platform: Platform, manager: ProcessManager) -> None:
    ports = platform.environment.ports

    def answer() -> bool:
        manager.require_alive()
        if any(map(_is_free, (ports.dagster, ports.mlflow, ports.grpc))):
            return False
        return not platform.project.products or _gateway_answers(platform)

    if not wait_until(answer, START_SECONDS):
        raise ServiceError(
            "Dagster's or MLflow's pages, the gRPC server or the gateway did not come up.\n"
            "Hint: see the dagster, mlflow, grpc and ray logs."
        )


def _gateway_answers(platform: Platform) -> bool:
    try:
        response = httpx.get(f"http://127.0.0.1:{platform.environment.ports.serve}/v2/health/live", timeout=5)
    except httpx.TransportError:
        return False
    return response.status_code == httpx.codes.OK


def product_url(platform: Platform, product: ModelProduct) -> str:
    """The address of a product's endpoint."""
    return f"http://127.0.0.1:{platform.environment.ports.serve}{product.route}"


def _start_services(platform: Platform, manager: ProcessManager, say: Say) -> None:
    for line in manager.end_leftovers():
        say(f"Ended a process that an earlier run left behind: {line}")
    for name, number in required_ports(platform.environment).items():
        if not _is_free(number):
            raise PortInUseError(name, number)
    prepare(platform.environment)
    paths = local_paths(platform.environment)
    open_instance(paths, services_run=False).dispose()
    paths.ports_file.write_text(json.dumps(platform.environment.ports.model_dump()), encoding="utf-8")
    name = os.environ.get("MLWAY_ENVIRONMENT") or platform.environment.name
    # MLflow's tables are made once, here: its server and a training would race to make them.
    _ = platform.registry.client
    manager.start(build_services(platform.environment, name))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def products_in_order(platform: Platform) -> tuple[list[str], list[str]]:
    """The product that `up` builds first, where there is one, and the others. Raises RunError for an unknown one."""
    names, first = list(platform.project.products), platform.environment.first_product
    if first is not None and first not in names:
        raise RunError(
            f"The environment {platform.environment.name!r} names the first product {first!r}. Known: "
            f"{', '.join(names) or 'none'}.\nHint: mend `first_product` in its file, or take it out."
        )
    if first is not None:
        names = [first, *(name for name in names if name != first)]
    return names[:1], names[1:]


def _build_missing(platform: Platform, products: Sequence[str], say: Say, on_step: OnStep) -> float:
    instance = open_instance(local_paths(platform.environment))
    jobs = missing_jobs(platform, instance, products)
    for_whom = f" for {', '.join(products)}" if products else ""
    say(f"To build{for_whom}: {', '.join(jobs)}." if jobs else f"The graph is complete{for_whom}.")
    return run_jobs(
        platform, instance, plan(platform, jobs, products=products, reason="mlway up: there was no model"), on_step
    )


def _deploy_and_start_rest(platform: Platform, manager: ProcessManager, given_up: Event) -> None:
    _deploy(platform, manager, given_up)
    ensure_tracking_database(platform.environment.experiments.tracking_uri)  # or MLflow's server would, in place
    manager.start_rest()


def _deploy(platform: Platform, manager: ProcessManager, given_up: Event) -> None:
    api = open_serve_api(platform)

    def answers() -> bool:
        manager.require_alive()
        return given_up.is_set() or api.is_up()

    if not wait_until(answers, START_SECONDS):
        raise ServiceError(f"Ray Serve did not answer within {START_SECONDS} s.\nHint: see the ray log.")
    desired = desired_versions(platform)
    if given_up.is_set():
        return
    roll_out_code(platform, api, desired)
    for product in platform.project.products.values():
        expected = desired[product.name]

        def is_ready(
            product: ModelProduct = product, version: int | None = expected.version if expected else None
        ) -> bool:
            reason = failure(api.applications().get(product.name, {}))
            if reason is not None:
                raise ServeError(f"{product.name} did not come up: {reason}")
            return given_up.is_set() or served_version(platform, product) == (True, version)

        if not wait_until(is_ready, START_SECONDS):
            raise ServeError(f"{product.name} did not come up within {START_SECONDS} s.\nHint: see the ray log.")


def served_version(platform: Platform, product: ModelProduct) -> tuple[bool, int | None]:
    """Whether the endpoint answers, and with which version; None is the baseline."""
    try:
        response = httpx.get(f"{product_url(platform, product)}/ready", timeout=5)
    except httpx.TransportError:
        return False, None
    if response.status_code != httpx.codes.OK:
        return False, None
    return True, response.json()["model"].get("version")


def _first_prediction(platform: Platform, products: Sequence[str], began: float, graph_seconds: float) -> UpReport:
    key_file = str(local_paths(platform.environment).local_key)
    if not products:
        return UpReport(perf_counter() - began, graph_seconds, None, {}, {}, key_file)
    product = platform.project.products[products[0]]
    request = {"instances": [_example(platform, product)]}
    response = _ask(platform, product, request)
    if response.status_code != httpx.codes.OK:
        raise ServeError(f"{product.name} answered {response.status_code}: {response.text[:300]}")
    return UpReport(perf_counter() - began, graph_seconds, product.name, request, response.json(), key_file)


def _ask(platform: Platform, product: ModelProduct, request: dict[str, Any]) -> httpx.Response:
    """The answer to the local key. Replicas that ran before it was made know it a moment later."""
    headers = {"Authorization": f"Bearer {local_key(platform.environment)}"}
    deadline = perf_counter() + platform.environment.access.refresh_seconds + 5
    while True:
        response = httpx.post(f"{product_url(platform, product)}/predict", json=request, headers=headers, timeout=30)
        if response.status_code != httpx.codes.UNAUTHORIZED or perf_counter() > deadline:
            return response
        sleep(0.2)


def _example(platform: Platform, product: ModelProduct) -> dict[str, Any]:
    """The first row half a day after now that a request could be about; where there is none, the newest of all.

    Raises ServeError where no row has all of the request's fields.
    """
    import polars as pl

    population = product.population
    time = pl.col(population.event_time)
    rows = platform.lake.scan("curated", population.table).sort(time).select(*population.request).drop_nulls()
    to_come = rows.filter(time >= platform.clock.now() + timedelta(hours=12)).head(1)
    found = [*to_come.collect().to_dicts(), *rows.tail(1).collect().to_dicts()]
    if not found:
        raise ServeError(
            f"No row of curated/{population.table} has all that a request to {product.name} carries: "
            f"{', '.join(population.request)}.\nHint: look into `population` in products/{product.name}.yaml."
        )
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in found[0].items()}
