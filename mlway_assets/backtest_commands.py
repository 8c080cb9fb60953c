"""`mlway backtest`: what a retraining policy would have gained."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mlway_assets.terminal import EnvironmentOption, choose, clear_errors, console, errors

if TYPE_CHECKING:
    from mlway_assets.compute.backtest_summary import Outcome

HEADS = ("policy", "metric", "better than never", "trained", "kept", "seconds", "alarms", "false", "found after")
"""Kept are the trainings that were promoted; alarms that no real shift explains are false; found after so many days."""
_FORMATS = ["%Y-%m-%d"]


def backtest(
    product: Annotated[str, typer.Argument(help="A product.")],
    first: Annotated[datetime, typer.Option("--from", formats=_FORMATS, help="First day.")],
    last: Annotated[datetime, typer.Option("--to", formats=_FORMATS, help="Last day.")],
    policy: Annotated[
        str, typer.Option("--policy", help="With commas: never, weekly, drift, quality, declared.")
    ] = "never,weekly,drift,quality",
    output: Annotated[Path | None, typer.Option("--output", help="Folder for picture, page and figures.")] = None,
    shuffled_by: Annotated[
        int | None,
        typer.Option(
            "--shuffle-days",
            metavar="SEED",
            help="Put all days until the last in another order first, so that every alarm is false.",
        ),
    ] = None,
    environment: EnvironmentOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object at the end.")] = False,
) -> None:
    """Replay days under several retraining policies; ends with status 1 where the declared one does not beat never."""
    with clear_errors():
        choose(environment)
        from mlway_assets.backtesting import NEVER, default_policy, policies, replay_policies
        from mlway_assets.compute import backtest_report, backtest_summary
        from mlway_assets.resources import open_platform
        from mlway_assets.training_sets import require_product

        platform = open_platform()
        found = platform.project.products[require_product(product, platform)]
        triggers = policies(found, [name.strip() for name in policy.split(",") if name.strip()])
        with errors.status("Joining features ...") as line:
            left = list(triggers)

            def on_done(name: str) -> None:
                left.remove(name)
                line.update(f"Replaying: {', '.join(left)}")

            line.update(f"Joining features, then replaying: {', '.join(left)}")
            replays = replay_policies(found, platform, first.date(), last.date(), triggers, on_done, shuffled_by)
            line.update("Comparing ...")
            never = next(replay for replay in replays if replay.policy == NEVER)
            outcomes = backtest_summary.summarize(found, replays, never)
        chosen = default_policy(found)
        title = f"{product}, {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        title += "" if shuffled_by is None else f", days shuffled by {shuffled_by}"
        folder = output or platform.environment.state / "backtests" / title.replace(", ", "_").replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        figure = backtest_report.chart(found.watched_metric, outcomes, replays)
        figure.savefig(folder / "backtest.png", dpi=110)
        rows = [_row(found.watched_metric, outcome, is_default=outcome.policy == chosen) for outcome in outcomes]
        page = backtest_report.page(title, HEADS, rows, figure, replays)
        (folder / "backtest.html").write_text(page, encoding="utf-8")
        is_better = next(outcome for outcome in outcomes if outcome.policy == chosen).better.low > 0
        result = {
            "product": product,
            "from": f"{first:%Y-%m-%d}",
            "to": f"{last:%Y-%m-%d}",
            "shuffled_by": shuffled_by,
            "default_policy": chosen,
            "does_default_beat_never": is_better,
            "policies": backtest_summary.as_json(outcomes, replays),
        }
        (folder / "backtest.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        _print(title, rows, folder, result if as_json else None)
        if not is_better and shuffled_by is None:  # where nothing changes there is nothing to gain
            errors.print(f"The declared policy, {chosen}, does not beat never training again.")
            raise typer.Exit(1)


def _row(metric: str, outcome: "Outcome", *, is_default: bool) -> list[str]:
    better = outcome.better
    detected = ", ".join(
        f"{day:%m-%d}: {'none' if days is None else days}" for day, days in outcome.detection_days.items()
    )
    return [
        outcome.policy + (" *" if is_default else ""),
        f"{outcome.metrics[metric]:.4f}",
        f"{better.mean:+.4f}, {better.low:+.4f} to {better.high:+.4f}",
        str(outcome.trainings),
        str(outcome.promotions),
        f"{outcome.seconds:.0f}",
        str(outcome.alarms),
        str(outcome.false_alarms),
        detected,
    ]


def _print(title: str, rows: Sequence[Sequence[str]], folder: Path, result: dict[str, Any] | None) -> None:
    table = Table(*HEADS, title=title, padding=(0, 0), show_edge=False)
    for row in rows:
        table.add_row(*row)
    where = console if result is None else errors
    where.print(table)
    where.print("* is the declared policy; kept: promoted; found after: days from a real shift to the alarm.")
    where.print(f"Picture, page and figures: {folder}", highlight=False, soft_wrap=True)
    if result is not None:
        typer.echo(json.dumps(result))
