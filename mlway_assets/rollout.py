"""Make serving follow the registry: declare every product with its champion, if that is not what runs already."""

import os
from collections.abc import Mapping
from typing import Any

from mlway_assets.local.paths import local_paths
from mlway_assets.resources import Platform
from serving.deploy import GATEWAY, ServeApi, ServedVersion, code_digest, serve_config, user_config

Versions = Mapping[str, ServedVersion | None]


def desired_versions(platform: Platform) -> dict[str, ServedVersion | None]:
    """The champion of every product."""
    desired: dict[str, ServedVersion | None] = {}
    for product in platform.project.products:
        champion = platform.registry.champion(product)
        desired[product] = None if champion is None else ServedVersion(champion.version, champion.digest)
    return desired


def open_serve_api(platform: Platform) -> ServeApi:
    """Ray Serve of this environment."""
    return ServeApi(platform.environment, local_paths(platform.environment).ray_token)


def declaration(platform: Platform, desired: Versions, code: str) -> dict[str, Any]:
    """All that Serve is told. Replicas look for the environment by the name that it was chosen by here."""
    name = os.environ.get("MLWAY_ENVIRONMENT") or platform.environment.name
    return serve_config(platform.project, platform.environment, name, desired, code)


def roll_out_code(platform: Platform, api: ServeApi, desired: Versions) -> None:
    """Declare `desired` with the code and configuration as they lie on disk. Raises ServeError.

    Where no product is desired and none runs there is nothing to declare, and Serve is not started.
    """
    running = _declarations(api)
    codes = {code_digest()} if desired else set()
    if _versions(running) != _user_configs(desired) or _codes(running) != codes:
        _declare(platform, api, desired, code_digest())


def roll_out_versions(platform: Platform, api: ServeApi, desired: Versions) -> list[str]:
    """Declare `desired` with the code that runs; gives a line for each product that has changed. Raises ServeError.

    Files that somebody is editing reach the endpoints only when they are rolled out on purpose.
    """
    running, wanted = _declarations(api), _user_configs(desired)
    changed = [name for name in wanted if _versions(running).get(name) != wanted[name]]
    if changed:
        codes = _codes(running)
        _declare(platform, api, desired, codes.pop() if len(codes) == 1 else code_digest())
    return [f"{name}: {wanted[name].get('version', 'baseline')}" for name in changed]


def _declare(platform: Platform, api: ServeApi, desired: Versions, code: str) -> None:
    api.declare(declaration(platform, desired, code))


def _declarations(api: ServeApi) -> dict[str, dict[str, Any]]:
    applications = api.applications()
    return {name: application.get("deployed_app_config") or {} for name, application in applications.items()}


def _user_configs(desired: Versions) -> dict[str, dict[str, Any]]:
    return {name: user_config(version) for name, version in desired.items()}


def _versions(running: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: deployment.get("user_config") or {}
        for name, declared in running.items()
        for deployment in declared.get("deployments", [])
        if name != GATEWAY
    }


def _codes(running: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {declared.get("args", {}).get("code", "") for declared in running.values()}
