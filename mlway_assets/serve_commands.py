"""The commands for endpoints on a Ray cluster of your own: `mlway serve-config`, `mlway node`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from configs.load import load_environment
from mlway_assets.terminal import EnvironmentOption, choose, clear_errors, console


def serve_config(
    environment: EnvironmentOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write it; by default serving/serve.yaml.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; end with status 1 where the file is not what it should be.")
    ] = False,
) -> None:
    """Write the declaration of every endpoint for `serve deploy`, with the versions that are champions now."""
    with clear_errors():
        choose(environment)
        from mlway_assets.resources import open_platform
        from mlway_assets.serve_file import SERVE_FILE, check_serve_file, serve_file_text

        platform, file = open_platform(), output or SERVE_FILE
        if check:
            check_serve_file(platform, file)
            console.print(f"{file} is as it should be.", highlight=False, markup=False, soft_wrap=True)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(serve_file_text(platform), encoding="utf-8")
        console.print(str(file), highlight=False, markup=False, soft_wrap=True)


def node(
    address: Annotated[str, typer.Option("--address", help="This machine's address, where the other nodes reach it.")],
    join: Annotated[
        str | None,
        typer.Option("--join", metavar="HOST:PORT", help="The head node's address; without it, be the head."),
    ] = None,
    environment: EnvironmentOption = None,
) -> None:
    """Run this machine's node of the Ray cluster that serves, with all of Ray's settings, until it is ended."""
    with clear_errors():
        choose(environment)
        from mlway_assets.local.services import prepare, ray_node

        chosen = load_environment()
        prepare(chosen)
        service = ray_node(chosen, os.environ.get("MLWAY_ENVIRONMENT") or chosen.name, address, join)
    os.execve(service.command[0], service.command, os.environ | service.variables)  # noqa: S606 - the node is the command
