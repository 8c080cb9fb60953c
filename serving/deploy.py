"""Declare to Ray Serve what should run, through its REST API: every product, and the version each answers with.

The declaration is the whole state: an application that is left out would be deleted. A changed version is a
`user_config`, which replicas take up in place. It holds every setting of Serve that is not its default: the code that
it names (`build` in app.py and gateway.py) binds a class and sets nothing.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from configs.environments import Environment
from configs.errors import MlwayError
from configs.load import PROJECT_ROOT, Project, configs_folder
from configs.products import Endpoint, ModelProduct
from configs.secrets import resolve_secret

REQUEST_TIMEOUT_SECONDS = 30
KEEP_ALIVE_SECONDS = 10
"""After which a replica closes a connection of HAProxy's that nobody uses. uvicorn's timer also holds what it knows of
one that was reset (10 KB), until it fires: with 90 s, Serve's default, replicas under overload grew by 250 MB."""
GATEWAY = "mlway-gateway"
"""The application of the standard protocols. No product can be called so: a product's name has no hyphen."""
GATEWAY_ENDPOINT = Endpoint(
    replica_cpus=0.1, target_ongoing_requests=16, max_ongoing_requests=64, max_queued_requests=512
)
"""Its limits; of the rest of an endpoint's settings it has no use."""
_PROXY_LOCATIONS = {"head_node": "HeadOnly", "every_node": "EveryNode"}
_METRICS_SECONDS, _LOAD_SECONDS = 2, 10
"""How often a replica tells its load, and over how long it is averaged: 10 and 30 by default, too slow for a burst."""
_CODE_PACKAGES = ("configs", "feature_repo", "serving")


class ServeError(MlwayError):
    """Ray Serve refused a declaration, or an application did not come up."""


@dataclass(frozen=True)
class ServedVersion:
    """The registered version that a product should answer with."""

    version: int
    digest: str


def serve_config(
    project: Project,
    environment: Environment,
    environment_name: str,
    served: Mapping[str, ServedVersion | None],
    code: str,
) -> dict[str, Any]:
    """The whole declaration. A product without a version answers with its baseline.

    Ray tells code apart by an application's arguments only: with another `code`, new replicas replace the old.
    """
    return {
        "proxy_location": _PROXY_LOCATIONS[environment.ray.ingress],
        "http_options": {
            "host": environment.ray.host,
            "port": environment.ports.serve,
            "request_timeout_s": REQUEST_TIMEOUT_SECONDS,
            "keep_alive_timeout_s": KEEP_ALIVE_SECONDS,
        },
        # Replicas write a request log of their own (serving/logs.py), off the request's path.
        "logging_config": {"encoding": "TEXT", "log_level": "INFO", "enable_access_log": False},
        "applications": [
            *(
                {
                    "name": name,
                    "route_prefix": product.route,
                    "import_path": "serving.app:build",
                    "args": {"product": name, "environment": environment_name, "code": code},
                    "deployments": [_deployment(product, served.get(name))],
                }
                for name, product in project.products.items()
            ),
            *([_gateway(code)] if project.products else []),
        ],
    }


def _gateway(code: str) -> dict[str, Any]:
    """Without products it would have nothing to offer."""
    return {
        "name": GATEWAY,
        "route_prefix": "/",
        "import_path": "serving.gateway:build",
        "args": {"code": code},
        "deployments": [{"name": GATEWAY, **_settings(GATEWAY_ENDPOINT)}],
    }


def _deployment(product: ModelProduct, served: ServedVersion | None) -> dict[str, Any]:
    return {"name": product.name, "user_config": user_config(served), **_settings(product.endpoint)}


def _settings(endpoint: Endpoint) -> dict[str, Any]:
    per_node = endpoint.max_replicas_per_node
    return {
        "autoscaling_config": {
            "min_replicas": endpoint.min_replicas,
            "max_replicas": endpoint.max_replicas,
            "target_ongoing_requests": endpoint.target_ongoing_requests,
            "upscale_delay_s": endpoint.upscale_delay_seconds,
            "downscale_delay_s": endpoint.downscale_delay_seconds,
            "metrics_interval_s": _METRICS_SECONDS,
            "look_back_period_s": _LOAD_SECONDS,
        },
        # admission.py decides who waits: nobody times what waits in Serve.
        "max_ongoing_requests": endpoint.most_requests,
        "max_queued_requests": endpoint.max_queued_requests,
        "backpressure_config": {"retry_after_s": 1},
        "ray_actor_options": {"num_cpus": endpoint.replica_cpus},
        # At INFO a record is made of every request, though the access log is off.
        "logging_config": {"log_level": "WARNING"},
        **({} if per_node is None else {"max_replicas_per_node": per_node}),
        # By default the old replicas of new code end before others are there.
        "max_surge_percent": 100,
        "graceful_shutdown_timeout_s": 10,
        "health_check_period_s": 5,
    }


def user_config(served: ServedVersion | None) -> dict[str, Any]:
    """What replicas are told about the version."""
    return {} if served is None else {"version": served.version, "digest": served.digest}


def code_digest() -> str:
    """SHA-256 over the code and configuration that replicas run."""
    digest = hashlib.sha256()
    for package in _CODE_PACKAGES:
        for path in sorted((PROJECT_ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(PROJECT_ROOT).as_posix().encode() + path.read_bytes())
    for path in sorted(configs_folder().rglob("*.yaml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class ServeApi:
    """Ray Serve's REST API on the cluster's dashboard."""

    def __init__(self, environment: Environment, token_file: Path) -> None:
        self._address = f"{environment.dashboard_address}/api/serve/applications/"
        self._token_secret = environment.ray.token_secret
        self._token_file = token_file

    def is_up(self) -> bool:
        """Whether the API answers. Without the file of the token nothing was ever started here that could."""
        if self._token_secret is None and not self._token_file.is_file():
            return False
        try:
            return self._request("GET").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def declare(self, config: Mapping[str, Any]) -> None:
        """Make this the state that Serve works towards. Raises ServeError."""
        try:
            response = self._request("PUT", config)
        except httpx.TransportError as error:
            raise ServeError(
                f"Ray Serve does not answer at {self._address}: {error}.\nHint: see `mlway status`."
            ) from error
        if response.status_code != httpx.codes.OK:
            raise ServeError(f"Ray Serve refused the declaration ({response.status_code}): {response.text[:500]}")

    def applications(self) -> dict[str, Any]:
        """Each application's state as Serve tells it; empty while the API does not answer."""
        try:
            response = self._request("GET")
        except httpx.TransportError:
            return {}
        return dict(response.json().get("applications", {})) if response.status_code == httpx.codes.OK else {}

    def _request(self, method: str, content: Mapping[str, Any] | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._token()}"}
        return httpx.request(method, self._address, json=content, headers=headers, timeout=60)

    def _token(self) -> str:
        if self._token_secret is not None:
            return resolve_secret(self._token_secret)
        return self._token_file.read_text(encoding="utf-8").strip()


def failure(application: Mapping[str, Any]) -> str | None:
    """Why an application has failed, or None while it has not."""
    if application.get("status") not in ("DEPLOY_FAILED", "UNHEALTHY"):
        return None
    messages = [application.get("message", "")]
    messages += [deployment.get("message", "") for deployment in application.get("deployments", {}).values()]
    return "\n".join(message for message in messages if message) or str(application["status"])
