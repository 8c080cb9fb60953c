"""The commands that prove the decision log and explain one decision of it."""

import json
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mlway_assets.terminal import EnvironmentOption, choose, clear_errors, console, errors


def verify_log(
    product: Annotated[str | None, typer.Argument(help="A product; by default every one.")] = None,
    environment: EnvironmentOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """Check every record of the decision log; ends with status 1 where one was altered, removed or moved."""
    with clear_errors():
        choose(environment)
        from mlway_assets.decision_verification import log_bytes, logged_products
        from mlway_assets.decision_verification import verify_log as verify
        from mlway_assets.resources import open_platform

        platform = open_platform()
        names = logged_products(platform, product)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=errors, transient=True) as progress:
            task = progress.add_task("Checking ...", total=log_bytes(platform, names))
            logs = [verify(name, platform, lambda size: progress.advance(task, size)) for name in names]
        if as_json:
            typer.echo(json.dumps({log.product: log.as_json() for log in logs}))
        else:
            for log in logs:
                state = "[red]broken[/red]" if log.problems else "[green]intact[/green]"
                console.print(
                    f"{log.product}: {log.decisions:,} decisions in {log.segments} segments, {state}", highlight=False
                )
                for problem in log.problems:
                    console.print("  " + escape(str(problem).splitlines()[0]), highlight=False, soft_wrap=True)
        if any(log.problems for log in logs):
            raise typer.Exit(1)


def explain_decision(
    identity: Annotated[str, typer.Argument(metavar="ID[.ROW]", help="As the answer gave it; one row of it: ID.0")],
    environment: EnvironmentOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """Compute a decision again, from the log and from the lake; ends with status 1 where the log has another score."""
    with clear_errors():
        choose(environment)
        with errors.status("Looking it up ..."):
            from mlway_assets.decision_explanation import explain_decision as explain
            from mlway_assets.resources import open_platform

            explanation = explain(identity, open_platform())
        from mlway_assets.decision_report import explanation_json, explanation_parts

        if as_json:
            typer.echo(json.dumps(explanation_json(explanation)))
        else:
            for part in explanation_parts(explanation):
                console.print(part, highlight=False, soft_wrap=isinstance(part, str))
        if not explanation.is_equal:
            raise typer.Exit(1)
