"""Secrets by name: configuration holds the name of an environment variable, never its value."""

import os
from collections.abc import Mapping

from configs.errors import MlwayError


class MissingSecretError(MlwayError):
    """A secret that the configuration names is not in the process's environment."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The secret {name} is not set.\nHint: export {name}=... before starting.")


def resolve_secret(name: str) -> str:
    """The value of the secret called `name`. Raises MissingSecretError."""
    value = os.environ.get(name)
    if not value:
        raise MissingSecretError(name)
    return value


def resolve_secrets(names: Mapping[str, str]) -> dict[str, str]:
    """Option name to secret value."""
    return {option: resolve_secret(name) for option, name in names.items()}
