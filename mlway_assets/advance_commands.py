"""`mlway advance`: days pass, and a table says what that has brought."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mlway_assets.terminal import EnvironmentOption, choose_running, clear_errors, console, errors

if TYPE_CHECKING:
    from mlway_assets.advance import DayDone
    from mlway_assets.endpoint_load import Answers
    from mlway_assets.resources import Platform


def advance(
    days: Annotated[int, typer.Option("--days", min=1, help="How many days pass.")] = 1,
    environment: EnvironmentOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object at the end.")] = False,
) -> None:
    """Let days pass: their data lands, is checked, scored and watched, triggers train, and endpoints are asked."""
    with clear_errors():
        from mlway_assets.advance import advance as let_pass
        from mlway_assets.local.instance import open_instance
        from mlway_assets.local.paths import local_paths
        from mlway_assets.resources import open_platform

        choose_running(environment)
        platform = open_platform()
        instance = open_instance(local_paths(platform.environment))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        done: list[DayDone] = []
        with _asked(platform) as answers, Progress(*columns, console=errors, transient=True) as progress:
            task = progress.add_task("Starting ...", total=days)

            def on_step(job: str, step: str, state: str) -> None:
                if state == "running":
                    progress.update(task, description=f"{platform.clock.now():%Y-%m-%d} {job}: {step}")

            for day in let_pass(platform, instance, days, on_step):
                done.append(day)
                progress.advance(task)
                _tell(day)
        if as_json:
            typer.echo(json.dumps(_as_json(done, answers)))
        else:
            _print(done, answers)
        if any(day.failure for day in done):
            raise typer.Exit(1)


@contextmanager
def _asked(platform: "Platform") -> "Iterator[dict[str, Answers]]":
    """The answers of every endpoint that runs, asked for flights of the day that has come, until the block ends."""
    from mlway_assets.day_requests import DayRequests
    from mlway_assets.endpoint_load import EndpointLoad
    from mlway_assets.local.local_key import local_key
    from mlway_assets.local.up import product_url
    from mlway_assets.rollout import open_serve_api

    if not open_serve_api(platform).is_up():
        errors.print("No endpoint runs, so that none is asked: `mlway up --detach` starts them.")
        yield {}
        return
    key = local_key(platform.environment)
    with ExitStack() as stack:
        answers = {}
        for name, product in platform.project.products.items():
            requests = DayRequests(platform, name)
            url = f"{product_url(platform, product)}/{requests.call}"
            answers[name] = stack.enter_context(EndpointLoad(url, key, requests.next)).answers
        yield answers


def _tell(day: "DayDone") -> None:
    for line in _lines(day):
        errors.print(escape(line), highlight=False, soft_wrap=True)


def _lines(day: "DayDone") -> list[str]:
    failed = [f"{day.day} failed: {day.failure}"] if day.failure else []
    trained = [
        f"{day.day} {each.product}: {', '.join(each.reasons)}: {_outcome(each.version, each.is_champion)}"
        for each in day.trained
    ]
    return [*failed, *(f"{day.day} {mark}" for mark in day.marks), *trained]


def _outcome(version: int | None, is_champion: bool) -> str:
    if version is None:
        return "refused"
    return f"version {version} " + ("promoted" if is_champion else "registered")


def _print(done: "Sequence[DayDone]", answers: "dict[str, Answers]") -> None:
    table = Table("day", "product", "why", "outcome", "what was not met", title="Trainings")
    for day in done:
        for each in day.trained:
            not_met = [line for line in (each.refusal or "").splitlines() if "Not met: " in line]
            why = "; ".join(line.partition("Not met: ")[2] for line in not_met) or (each.refusal or "")
            table.add_row(
                str(day.day),
                each.product,
                ", ".join(each.reasons),
                _outcome(each.version, each.is_champion),
                escape(why.splitlines()[0]) if why else "",
            )
    console.print(table)
    held_back = sum(len(day.held_back) for day in done)
    failed = [day for day in done if day.failure]
    console.print(
        f"{len(done)} days passed; {len(failed)} had a failure, {held_back} times a trigger was held back.",
        highlight=False,
    )
    for name, found in answers.items():
        by_version = ", ".join(f"version {version}: {count:,}" for version, count in found.by_version.items())
        console.print(
            f"{name}: {found.answered:,} requests answered ({by_version}), {len(found.failed)} failed, the longest "
            f"took {found.longest_seconds:.2f} s",
            highlight=False,
        )
        for problem in found.failed[:3]:
            console.print("  " + escape(problem), highlight=False, soft_wrap=True)


def _as_json(done: "Sequence[DayDone]", answers: "dict[str, Answers]") -> dict[str, Any]:
    return {
        "days": [
            {
                "day": day.day.isoformat(),
                "failure": day.failure,
                "marks": day.marks,
                "held_back": day.held_back,
                "rolled_out": day.rolled_out,
                "trained": [
                    {
                        "product": each.product,
                        "reasons": each.reasons,
                        "version": each.version,
                        "is_champion": each.is_champion,
                        "refusal": each.refusal,
                    }
                    for each in day.trained
                ],
            }
            for day in done
        ],
        "endpoints": {
            name: {
                "answered": found.answered,
                "by_version": found.by_version,
                "failed": found.failed[:20],
                "failures": len(found.failed),
                "longest_seconds": found.longest_seconds,
            }
            for name, found in answers.items()
        },
    }
