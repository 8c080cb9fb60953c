"""The declaration for Ray Serve, held against Ray's own schema."""

from ray.serve.schema import ServeDeploySchema

from configs.load import load_environment, load_project
from serving.deploy import GATEWAY, ServedVersion, serve_config

PROJECT = load_project()


def test_every_product_is_an_application_of_its_own_that_ray_accepts() -> None:
    served = {name: ServedVersion(number, "d") for number, name in enumerate(PROJECT.products, start=1)}
    declared = ServeDeploySchema.model_validate(
        serve_config(PROJECT, load_environment("local"), "local", served | {"flight_delay": None}, "code")
    )
    applications = {application.name: application for application in declared.applications}
    assert applications.keys() == {*PROJECT.products, GATEWAY}
    assert applications["flight_ranking"].route_prefix == "/flight-ranking"
    configs = {name: applications[name].deployments[0].user_config for name in PROJECT.products}
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
        if application["name"] != GATEWAY
        for deployment in application["deployments"]
    ]
    products = PROJECT.products.values()
    assert cores == [product.endpoint.replica_cpus for product in products]
    beside = 0.25  # The gateway's, twice.
    assert sum(2 * product.endpoint.min_replicas * product.endpoint.replica_cpus for product in products) + beside <= 2
    assert sum(product.endpoint.max_replicas * product.endpoint.replica_cpus for product in products) + beside <= 2
