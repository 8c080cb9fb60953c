"""What runs and what answers, as one object."""

from typing import Any

from mlway_assets.local.paths import local_paths
from mlway_assets.local.process_manager import ProcessManager
from mlway_assets.local.up import product_url, served_version
from mlway_assets.resources import Platform


def status(platform: Platform) -> dict[str, Any]:
    """`products`: champion, endpoint and what answers there; `services`: state, process and address."""
    environment = platform.environment
    states = ProcessManager(local_paths(environment)).states()
    addresses = {
        "grpc": f"127.0.0.1:{environment.ports.grpc}",
        "dagster": f"http://127.0.0.1:{environment.ports.dagster}",
        "mlflow": f"http://127.0.0.1:{environment.ports.mlflow}",
        "ray": f"http://127.0.0.1:{environment.ports.ray_dashboard}",
    }
    services = {
        name: {"state": state.state.lower(), "process": state.process, "address": addresses.get(name)}
        for name, state in states.items()
    }
    has_registry = platform.registry.exists()
    return {
        "environment": environment.name,
        "products": {name: _product(platform, name, has_registry) for name in platform.project.products},
        "services": services,
    }


def _product(platform: Platform, name: str, has_registry: bool) -> dict[str, Any]:
    product = platform.project.products[name]
    champion = platform.registry.champion(name) if has_registry else None
    answers, version = served_version(platform, product)
    return {
        "champion": None
        if champion is None
        else {"version": champion.version, "digest": champion.digest, "metrics": dict(champion.metrics)},
        "metric": product.gate.metric_name,
        "endpoint": product_url(platform, product),
        "answers": answers,
        "serving": ("baseline" if version is None else version) if answers else None,
    }
