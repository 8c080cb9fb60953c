"""`mlway evidence`: the compliance pack of a version, and whether one is as it was made."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from mlway_assets.terminal import EnvironmentOption, choose, clear_errors, console, errors


def evidence(
    product: Annotated[str | None, typer.Argument(help="A product.")] = None,
    version: Annotated[int | None, typer.Argument(help="A registered version; by default the champion.")] = None,
    environment: EnvironmentOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; by default PRODUCT-VERSION-evidence.zip, here.")
    ] = None,
    verify: Annotated[
        Path | None, typer.Option("--verify", help="Instead: hold every file of this pack against its manifest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object at the end.")] = False,
) -> None:
    """Write a version's compliance pack: card, data hashes, checks with results, approvals, bill of materials."""
    with clear_errors():
        if verify is not None and product is None:
            _verify(verify, as_json)
            return
        if product is None or verify is not None:
            raise typer.BadParameter("give either a product, or --verify with a file")
        choose(environment)
        from mlway_assets.compute.sealed_zip import manifest_hash
        from mlway_assets.evidence import evidence_of, write_evidence
        from mlway_assets.local.graph import require_products
        from mlway_assets.local.instance import open_instance
        from mlway_assets.local.paths import local_paths
        from mlway_assets.resources import open_platform

        platform = open_platform()
        require_products(platform, [product])
        found = platform.registry.require_version(product, version)
        instance = open_instance(local_paths(platform.environment))
        pack = evidence_of(found, platform, instance)
        instance.dispose()
        file = out or Path(f"{product}-{found.version}-evidence.zip")
        write_evidence(pack, file)
        for line in pack.missing:
            errors.print(f"[yellow]warning:[/yellow] {escape(line)}", highlight=False, soft_wrap=True)
        manifest = manifest_hash(file.read_bytes())
        if as_json:
            names = sorted(pack.files)
            told = {"product": product, "version": found.version, "file": str(file), "manifest_sha256": manifest}
            typer.echo(json.dumps(told | {"files": names, "missing": list(pack.missing)}))
            return
        console.print(f"Wrote {file}: {len(pack.files)} files, manifest {manifest}", highlight=False, soft_wrap=True)


def _verify(file: Path, as_json: bool) -> None:
    """Ends with status 1 where a file was altered, removed or added."""
    from mlway_assets.compute.sealed_zip import SealError, manifest_hash, seal_problems

    try:
        content = file.read_bytes()
    except OSError as error:
        raise SealError(f"{file} cannot be read: {error.strerror}.\nHint: name a pack of `mlway evidence`.") from error
    problems = seal_problems(content, str(file))
    manifest = manifest_hash(content)
    if as_json:
        typer.echo(json.dumps({"file": str(file), "manifest_sha256": manifest, "problems": problems}))
    else:
        state = "[red]altered[/red]" if problems else "[green]intact[/green]"
        console.print(f"{escape(str(file))}: {state}, manifest {manifest}", highlight=False, soft_wrap=True)
        for problem in problems:
            console.print("  " + escape(problem), highlight=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)
