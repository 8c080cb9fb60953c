"""`mlway advance`: days pass, and a table says what that has brought."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mlway_assets.terminal import EnvironmentOption, choose_running, clear_errors, errors

if TYPE_CHECKING:
    from mlway_assets.advance import DayDone
    from mlway_assets.endpoint_load import Answers
    from mlway_assets.resources import Platform


def advance(
    days: Annotated[int, typer.Option("--days", min=1, help="How many days pass.")] = 1,
    environment: EnvironmentOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object at the end.")] = False,
) -> None:
    """Let days pass: their data lands, is checked, scored and watched, triggers train, and endpoints are asked.

    Ends with status 1 where a day, a training or a request failed; a candidate that its gate refuses is no failure.
    """
    with clear_errors():
        from mlway_assets.advance import UnfinishedDayError
        from mlway_assets.advance import advance as let_pass
        from mlway_assets.advance_report import new_lines, print_report, report_json
        from mlway_assets.local.instance import open_instance
        from mlway_assets.local.paths import local_paths
        from mlway_assets.resources import open_platform

        choose_running(environment)
        platform = open_platform()
        instance = open_instance(local_paths(platform.environment))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        done: list[DayDone] = []
        before: DayDone | None = None
        unfinished: UnfinishedDayError | None = None
        with _asked(platform) as answers, Progress(*columns, console=errors, transient=True) as progress:
            task = progress.add_task("Starting ...", total=days)

            def on_step(job: str, step: str, state: str) -> None:
                if state == "running":
                    progress.update(task, description=f"{platform.clock.now():%Y-%m-%d} {job}: {step}")

            try:
                for day in let_pass(platform, instance, days, on_step):
                    for line in new_lines(day, before):
                        errors.print(escape(line), highlight=False, soft_wrap=True)
                    done.append(day)
                    before = before if day.failure else day
                    progress.advance(task)
            except UnfinishedDayError as error:
                unfinished = error
        if as_json:
            typer.echo(json.dumps(report_json(done, answers)))
        else:
            print_report(done, answers)
        if unfinished is not None:
            raise unfinished
        has_failed = any(day.failure or any(each.has_failed for each in day.trained) for day in done)
        if has_failed or any(found.failed for found in answers.values()):
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
