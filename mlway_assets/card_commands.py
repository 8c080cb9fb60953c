"""The commands that show a version's model card, and make a version champion."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mlway_assets.terminal import EnvironmentOption, choose, clear_errors, console, errors


def card(
    product: Annotated[str, typer.Argument(help="A product.")],
    version: Annotated[int | None, typer.Argument(help="A registered version; by default the champion.")] = None,
    environment: EnvironmentOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; by default PRODUCT-VERSION-card.html, here.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as one object at the end.")] = False,
) -> None:
    """Write a version's model card: data, metrics by slice, limits, intended use, the gate, approvals."""
    with clear_errors():
        choose(environment)
        from mlway_assets.local.graph import require_products
        from mlway_assets.model_card import card_html, card_json, read_card
        from mlway_assets.resources import open_platform

        platform = open_platform()
        require_products(platform, [product])
        found = platform.registry.require_version(product, version)
        facts = read_card(platform.registry, found)
        file = out or Path(f"{product}-{found.version}-card.html")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(card_html(platform.registry, facts), encoding="utf-8")
        (errors if as_json else console).print(f"Wrote {file}", highlight=False, soft_wrap=True)
        if show:
            typer.launch(str(file.resolve()))
        if as_json:
            typer.echo(json.dumps(json.loads(card_json(facts))))


def promote(
    product: Annotated[str, typer.Argument(help="A product.")],
    version: Annotated[int, typer.Argument(help="A registered version.")],
    environment: EnvironmentOption = None,
    note: Annotated[str | None, typer.Option("--note", help="Why; it is kept with the approval.")] = None,
) -> None:
    """Approve a registered version: it becomes champion, and its card says who made it so, and when."""
    with clear_errors():
        choose(environment)
        import getpass

        from configs.clock import build_clock
        from configs.environments import SystemClock
        from mlway_assets.approvals import approve
        from mlway_assets.compute.card import Approval
        from mlway_assets.local.graph import require_products
        from mlway_assets.model_card import publish_card, read_card
        from mlway_assets.resources import open_platform

        platform = open_platform()
        require_products(platform, [product])
        found = platform.registry.require_version(product, version)
        read_card(platform.registry, found)  # what has no card has not passed the gate
        now = build_clock(SystemClock(kind="system")).now()  # people approve by the machine's clock
        approve(platform.registry, found, Approval(at=now, by=getpass.getuser(), note=note))
        publish_card(platform.registry, found)
        console.print(f"{product} version {version} is champion: the endpoint follows.", highlight=False)
