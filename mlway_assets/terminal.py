"""What every command shares: where it prints, how it ends on an error, which environment it is for. No command."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from configs.errors import MlwayError

console, errors = Console(), Console(stderr=True)
EnvironmentOption = Annotated[
    str | None,
    typer.Option(
        "--environment", "-e", help="Name of configs/environments/NAME.yaml, or a path.", envvar="MLWAY_ENVIRONMENT"
    ),
]


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what a user can put right into a line and an exit code; anything else is a bug and keeps its trace."""
    try:
        yield
    except MlwayError as error:
        errors.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def choose(environment: str | None, ports: list[str] | None = None) -> None:
    """Make an environment, and moved ports, those of this process and of every process that it starts."""
    if environment:
        # The services start elsewhere, where a relative path would mean another file.
        is_path = environment.endswith(".yaml")
        os.environ["MLWAY_ENVIRONMENT"] = str(Path(environment).resolve()) if is_path else environment
    if ports:
        os.environ["MLWAY_PORTS"] = ",".join(filter(None, [os.environ.get("MLWAY_PORTS"), *ports]))


def choose_running(environment: str | None) -> None:
    """As `choose`, with the ports that the running services were started with."""
    from configs.load import load_environment
    from mlway_assets.local.paths import local_paths

    choose(environment)
    file = local_paths(load_environment()).ports_file
    if "MLWAY_PORTS" not in os.environ and file.is_file():
        ports = json.loads(file.read_text(encoding="utf-8"))
        os.environ["MLWAY_PORTS"] = ",".join(f"{name}={number}" for name, number in ports.items())
