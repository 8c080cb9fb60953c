"""The commands that show the catalogue of features and the versions of training sets, and build one again."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from mlway_assets.terminal import EnvironmentOption, choose, clear_errors, console, errors


def features(
    name: Annotated[str | None, typer.Argument(help="A group, a feature or group:feature: show it in detail.")] = None,
    environment: EnvironmentOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """The catalogue: every feature with owner, type, freshness, statistics, and the products that use it."""
    with clear_errors():
        choose(environment)
        from mlway_assets.catalogue_tables import catalogue_tables, detail_lines
        from mlway_assets.feature_catalogue import build_catalogue
        from mlway_assets.resources import open_platform

        catalogue = build_catalogue(open_platform())
        catalogue = catalogue.only(name) if name else catalogue
        if as_json:
            typer.echo(json.dumps(catalogue.as_json()))
            return
        for part in detail_lines(catalogue) if name else catalogue_tables(catalogue):
            console.print(part, highlight=False, soft_wrap=bool(name))
        for warning in catalogue.warnings:
            errors.print(f"[yellow]warning:[/yellow] {escape(warning.message)}", highlight=False, soft_wrap=True)


def training_sets(
    product: Annotated[str | None, typer.Argument(help="A product; by default every one.")] = None,
    environment: EnvironmentOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """The versions of training sets: when they were built, from which versions of which tables, and their hash."""
    with clear_errors():
        choose(environment)
        from mlway_assets.catalogue_tables import training_set_table
        from mlway_assets.resources import open_platform
        from mlway_assets.training_sets import require_product, training_set_versions

        platform = open_platform()
        names = [require_product(product, platform)] if product else list(platform.project.products)
        found = {name: training_set_versions(name, platform) for name in names}
        if as_json:
            typer.echo(
                json.dumps({name: [version.as_json() for version in versions] for name, versions in found.items()})
            )
            return
        for name, versions in found.items():
            console.print(training_set_table(name, versions))


def rebuild_training_set(
    product: Annotated[str, typer.Argument(help="A product.")],
    version: Annotated[int, typer.Option("--version", help="As `mlway training-sets` lists it.")],
    environment: EnvironmentOption = None,
    output: Annotated[Path | None, typer.Option("--output", help="Parquet file to write it to.")] = None,
) -> None:
    """Build a former training set again from its recorded inputs; ends with status 1 where it is not the same."""
    with clear_errors():
        choose(environment)
        from mlway_assets.resources import open_platform
        from mlway_assets.training_sets import rebuild_training_set as rebuild
        from mlway_assets.training_sets import require_product

        platform = open_platform()
        rebuilt = rebuild(require_product(product, platform), version, platform)
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            rebuilt.frame.write_parquet(output)
        console.print(f"recorded  {rebuilt.recorded.record.sha256}\nrebuilt   {rebuilt.sha256}", highlight=False)
        if not rebuilt.is_equal:
            differing = ", ".join(rebuilt.different_columns)
            errors.print(f"[red]different[/red] in {escape(differing)}", highlight=False, soft_wrap=True)
            raise typer.Exit(1)
        console.print(f"[green]equal[/green]: {len(rebuilt.frame):,} rows, bit for bit", highlight=False)
