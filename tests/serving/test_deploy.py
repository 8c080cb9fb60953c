"""The declaration for Ray Serve, held against Ray's own schema."""

from pathlib import Path

import pytest
from ray import serve
from ray.serve.config import AutoscalingConfig, ProxyLocation
from ray.serve.schema import ServeDeploySchema

from configs.load import Project, load_environment, load_project
from configs.products import Endpoint
from serving.app import AppArgs
from serving.app import build as build_product
from serving.deploy import GATEWAY, GATEWAY_ENDPOINT, ServeApi, ServedVersion, serve_config
from serving.gateway import GatewayArgs
from serving.gateway import build as build_gateway

PROJECT = load_project()


def test_every_product_is_an_application_of_its_own_that_ray_accepts() -> None:
    served = {name: ServedVersion(number, "d") for number, name in enumerate(PROJECT.products, start=1)}
    declared = ServeDeploySchema.model_validate(
        serve_config(PROJECT, load_environment("local"), "local", served | {"flight_delay": None}, "code")
    )
    applications = {application.name: application for application in declared.applications}
    assert list(applications) == [*PROJECT.products, GATEWAY]
    assert applications.pop(GATEWAY).route_prefix == "/"
    assert applications["flight_ranking"].route_prefix == "/flight-ranking"
    configs = {name: application.deployments[0].user_config for name, application in applications.items()}
    assert configs == {
        "arrival_delay": {"version": 1, "digest": "d"},
        "flight_delay": {},
        "flight_ranking": {"version": 3, "digest": "d"},
    }


def test_every_products_replicas_fit_on_two_cores_while_their_code_is_replaced() -> None:
    declared = serve_config(PROJECT, load_environment("local"), "local", {}, "code")
    cores = [
        deployment["ray_actor_options"]["num_cpus"]
        for application in declared["applications"]
        for deployment in application["deployments"]
    ]
    products = PROJECT.products.values()
    assert cores == [*(product.endpoint.replica_cpus for product in products), GATEWAY_ENDPOINT.replica_cpus]
    gateway = 2 * GATEWAY_ENDPOINT.replica_cpus
    assert sum(2 * product.endpoint.min_replicas * product.endpoint.replica_cpus for product in products) + gateway <= 2
    assert sum(product.endpoint.max_replicas * product.endpoint.replica_cpus for product in products) + gateway <= 2


def test_without_a_product_nothing_is_declared() -> None:
    assert serve_config(Project({}, {}, {}), load_environment("local"), "local", {}, "code")["applications"] == []


def test_the_file_of_several_nodes_takes_requests_on_each_of_them() -> None:
    environment = load_environment("production")
    declared = ServeDeploySchema.model_validate(serve_config(PROJECT, environment, "production", {}, "code"))
    assert declared.proxy_location == ProxyLocation.EveryNode
    assert (declared.http_options.host, declared.http_options.port) == ("0.0.0.0", environment.ports.serve)
    assert environment.dashboard_address == "http://ray-head.internal:8265"


def test_without_a_word_of_other_nodes_everything_listens_on_this_machine() -> None:
    environment = load_environment("local")
    declared = ServeDeploySchema.model_validate(serve_config(PROJECT, environment, "local", {}, "code"))
    assert declared.proxy_location == ProxyLocation.HeadOnly
    assert declared.http_options.host == "127.0.0.1"
    assert environment.dashboard_address == "http://127.0.0.1:8265"


def test_a_products_file_decides_how_its_replicas_run() -> None:
    product = PROJECT.products["flight_delay"]
    endpoint = Endpoint(
        min_replicas=2,
        max_replicas=5,
        max_replicas_per_node=1,
        replica_cpus=0.5,
        target_ongoing_requests=3,
        upscale_delay_seconds=1,
        downscale_delay_seconds=20,
        max_ongoing_requests=7,
        max_queued_requests=9,
    )
    project = Project({}, PROJECT.features, {"flight_delay": product.model_copy(update={"endpoint": endpoint})})
    declared = serve_config(project, load_environment("local"), "local", {}, "code")
    [deployment] = ServeDeploySchema.model_validate(declared).applications[0].deployments
    scaling = deployment.autoscaling_config
    assert (scaling["min_replicas"], scaling["max_replicas"], scaling["target_ongoing_requests"]) == (2, 5, 3)
    assert (scaling["upscale_delay_s"], scaling["downscale_delay_s"]) == (1, 20)
    assert AutoscalingConfig(**scaling).look_back_period_s > AutoscalingConfig(**scaling).metrics_interval_s
    assert (deployment.max_ongoing_requests, deployment.max_queued_requests) == (7 + 9, 9)
    assert (deployment.max_replicas_per_node, deployment.ray_actor_options.num_cpus) == (1, 0.5)


@pytest.mark.parametrize(
    "application",
    [build_product(AppArgs(product="flight_delay", environment="local")), build_gateway(GatewayArgs())],
    ids=["product", "gateway"],
)
def test_an_application_sets_nothing_that_the_declaration_does_not_say(application: serve.Application) -> None:
    """One place says how replicas run."""
    found = application._bound_deployment._deployment_config.user_configured_option_names
    assert found <= {"name", "_init_args", "_init_kwargs"}


def test_the_clusters_token_comes_from_the_secret_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_CLUSTER_TOKEN", "from-the-secret")
    assert ServeApi(load_environment("production"), tmp_path / "absent")._token() == "from-the-secret"
    (tmp_path / "token").write_text("from-the-file\n", encoding="ascii")
    assert ServeApi(load_environment("local"), tmp_path / "token")._token() == "from-the-file"
