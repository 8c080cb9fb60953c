"""The `mlway` command. The edge of the platform: arguments, progress, tables and exit codes; no work of its own."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

# Before anything loads OpenMP or asks for local time: threads that wait must not spin on shared cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["TZ"] = "UTC"

import typer
from rich.console import Console
from rich.table import Table

from configs.errors import MlwayError
from configs.load import load_environment
from mlway_assets.access_commands import key
from mlway_assets.advance_commands import advance
from mlway_assets.backtest_commands import backtest
from mlway_assets.card_commands import card, promote
from mlway_assets.catalogue_commands import features, rebuild_training_set, training_sets
from mlway_assets.decision_commands import explain_decision, verify_log
from mlway_assets.evidence_commands import evidence
from mlway_assets.retrain_commands import retrain
from mlway_assets.serve_commands import node, serve_config
from mlway_assets.terminal import EnvironmentOption, choose_running, console, errors
from mlway_assets.terminal import choose as _choose
from mlway_assets.terminal import clear_errors as _clear_errors

app = typer.Typer(
    help="From raw data to live, monitored, replayable predictions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
PortOption = Annotated[
    list[str] | None, typer.Option("--port", help="Move a port, as dagster=3001; may be given several times.")
]


@app.command()
def up(
    environment: EnvironmentOption = None,
    port: PortOption = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave the services running and return.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object at the end.")] = False,
) -> None:
    """Start the services, build what is missing, deploy, and ask for one prediction. Ctrl-C stops everything."""
    with _clear_errors():
        _choose(environment, port)
        from mlway_assets.local.paths import local_paths
        from mlway_assets.local.process_manager import ProcessManager
        from mlway_assets.local.up import bring_up
        from mlway_assets.resources import open_platform

        platform = open_platform()
        manager = ProcessManager(local_paths(platform.environment))
        ran_before = manager.is_running()
        say = errors if as_json else console
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            with _progress(say) as on_step:
                report = bring_up(platform, lambda line: say.print(line, highlight=False, markup=False), on_step)
            _print_up(report.__dict__, platform, as_json)
            if not detach:
                console.print("Ctrl-C stops everything.") if not as_json else None
                signal.pause()
        except (KeyboardInterrupt, SystemExit):
            if not ran_before:
                say.print("Stopping ...")
                manager.stop()
            raise typer.Exit(0) from None
        except MlwayError:
            if not ran_before:
                manager.stop()
            raise


@app.command()
def down(environment: EnvironmentOption = None) -> None:
    """Stop every service of this state folder, whoever started it."""
    with _clear_errors():
        choose_running(environment)
        from mlway_assets.local.paths import local_paths
        from mlway_assets.local.process_manager import ProcessManager

        manager = ProcessManager(local_paths(load_environment()))
        had_services = manager.is_running() or bool(manager.leftovers())
        manager.stop()
        console.print("Stopped." if had_services else "Nothing was running.")


@app.command()
def status(
    environment: EnvironmentOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """What runs, which version each product answers with, and how good it is."""
    with _clear_errors():
        choose_running(environment)
        from mlway_assets.local.status import status as read_status
        from mlway_assets.resources import open_platform

        found = read_status(open_platform())
        print(json.dumps(found)) if as_json else _print_status(found)


@app.command()
def materialize(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(
            help="ingest, train, predict, monitor; by default all, in this order. daily: all but train. report: drift."
        ),
    ] = None,
    environment: EnvironmentOption = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")] = None,
    product: Annotated[
        list[str] | None,
        typer.Option("--product", help="Train, predict and monitor this one only; may be given several times."),
    ] = None,
) -> None:
    """Run the graph's jobs in this process."""
    with _clear_errors():
        choose_running(environment)
        from mlway_assets.local.graph import ASKED_FOR, JOBS, RunError, plan, run_jobs
        from mlway_assets.local.instance import open_instance
        from mlway_assets.local.paths import local_paths
        from mlway_assets.resources import open_platform

        unknown = [job for job in jobs or () if job not in (*JOBS, *ASKED_FOR)]
        if unknown:
            raise RunError(f"There is no job {unknown[0]!r}. Known: {', '.join((*JOBS, *ASKED_FOR))}.")
        platform = open_platform()
        days = (first.date() if first else None, last.date() if last else None)
        runs = plan(platform, jobs or JOBS, *days, products=product or ())
        with _progress(console) as on_step:
            seconds = run_jobs(platform, open_instance(local_paths(platform.environment)), runs, on_step)
        console.print(f"Done in {seconds:.1f} s.")


_COMMANDS = (
    *(advance, backtest, retrain, features, training_sets, rebuild_training_set),
    *(card, evidence, promote, verify_log, explain_decision, serve_config, node),
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(key, name="key")


@app.command()
def schema() -> None:
    """Write the JSON Schema of each kind of configuration file to configs/schemas/."""
    from configs.json_schemas import write_json_schemas

    for path in write_json_schemas():
        console.print(str(path))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def feast(context: typer.Context) -> None:
    """Run Feast's own command on this environment's feature store: `mlway feast ui`."""
    with _clear_errors():
        from feature_repo.store import FEATURE_STORE_FILE, feast_variables

        os.environ |= feast_variables(load_environment())
        os.execv(
            sys.executable, [sys.executable, "-m", "feast.cli.cli", "-c", str(FEATURE_STORE_FILE.parent), *context.args]
        )


@contextmanager
def _progress(where: Console) -> Iterator[Any]:
    """A line that shows the step in hand, and one printed for each step that is done."""
    with where.status("Starting ...") as line:

        def on_step(job: str, step: str, state: str) -> None:
            name = step.replace("__", "/")
            if state == "running":
                line.update(f"{job}: {name}")
            elif where.is_terminal or state == "failed":
                where.print(f"  {state:8} {name}", highlight=False)

        yield on_step


def _print_up(report: dict[str, Any], platform: Any, as_json: bool) -> None:
    from mlway_assets.local.status import status as read_status

    if as_json:
        print(json.dumps(report | {"status": read_status(platform)}))
        return
    found = read_status(platform)
    if report["product"] is None:
        _print_status(found)
        console.print("No product is declared: there is nothing to ask. See configs/products/.")
        return
    console.print(f"\nAsked {found['products'][report['product']]['endpoint']}/predict")
    console.print_json(json.dumps(report["request"]), indent=None)
    console.print("and it answered")
    console.print_json(json.dumps(report["answer"]), indent=None)
    console.print("Ask it yourself, with the key that `mlway up` made:")
    console.print(
        f'curl -H "Authorization: Bearer $(cat {shlex.quote(report["key_file"])})" -H "Content-Type: application/json" '
        f"{found['products'][report['product']]['endpoint']}/predict -d {shlex.quote(json.dumps(report['request']))}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    _print_status(found)
    console.print(
        f"First answer after {report['answer_seconds']:.0f} s, of which the graph {report['graph_seconds']:.0f} s."
    )


def _print_status(found: dict[str, Any]) -> None:
    products = Table("product", "champion", "on test", "answers with", "endpoint", title="Products")
    for name, product in found["products"].items():
        champion = product["champion"]
        products.add_row(
            name,
            str(champion["version"]) if champion else "none yet",
            f"{product['metric']} {champion['metrics']['test_' + product['metric']]:.4f}" if champion else "",
            str(product["serving"]) if product["answers"] else "does not answer",
            product["endpoint"],
        )
    services = Table("service", "state", "process", "address", title="Services")
    for name, service in found["services"].items():
        services.add_row(name, service["state"], str(service["process"] or ""), service["address"] or "")
    console.print(products)
    gateway = found["gateway"]
    console.print(f"KServe V1 and Open Inference Protocol: {gateway}/v1, {gateway}/v2; all addresses: {gateway}/docs")
    console.print(services) if found["services"] else console.print("No service runs. Start them with `mlway up`.")
