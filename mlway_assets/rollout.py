"""Make serving follow the registry: declare every product with its champion, if that is not what runs already."""

import os

from mlway_assets.local.paths import local_paths
from mlway_assets.resources import Platform
from serving.deploy import ServeApi, ServedVersion, code_digest, serve_config, user_config


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


def differences(api: ServeApi, desired: dict[str, ServedVersion | None]) -> list[str]:
    """A line for each product that does not run as desired."""
    running, lines = api.applications(), []
    for product, version in desired.items():
        declared = running.get(product, {}).get("deployed_app_config") or {}
        if declared.get("args", {}).get("code") != code_digest():
            lines.append(f"{product}: not deployed with this code")
        elif [d.get("user_config") for d in declared.get("deployments", [])] != [user_config(version)]:
            lines.append(f"{product}: {'baseline' if version is None else f'version {version.version}'}")
    return lines


def roll_out(platform: Platform, api: ServeApi, desired: dict[str, ServedVersion | None]) -> None:
    """Declare `desired`. Raises ServeError."""
    name = os.environ.get("MLWAY_ENVIRONMENT") or platform.environment.name
    api.declare(serve_config(platform.project, platform.environment, name, desired))
