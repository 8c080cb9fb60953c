"""The commands that make, list and revoke API keys: `mlway key`."""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.errors import MlwayError
from configs.load import load_environment, load_project
from configs.schema import parse_duration
from mlway_assets.terminal import EnvironmentOption, choose, clear_errors, console, errors

if TYPE_CHECKING:
    from rich.table import Table

    from serving.api_keys import KeyRecord, RateLimit

key = typer.Typer(help="Make, list and revoke the keys of applications.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one object.")]


class KeyOptionError(MlwayError):
    """Options of a new key that make no sense."""


@key.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is; decisions and metrics say it.")],
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope",
            help="PRODUCT:ACTION, * for every product; actions are predict, explain, decisions:read, admin. "
            "May be given several times.",
        ),
    ],
    expires: Annotated[str | None, typer.Option("--expires", help="After so long, as 90d; by default never.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Requests per second, at each replica.")] = None,
    burst: Annotated[int | None, typer.Option("--burst", help="How many at once; by default one second's.")] = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    with clear_errors():
        choose(environment)
        from serving.access_store import open_key_store
        from serving.scopes import check_scope

        products = load_project().products
        scopes = [check_scope(text, products) for text in dict.fromkeys(scope)]
        now = time.time()
        record, text = open_key_store(load_environment()).create(
            name, scopes, expires_at=_expiry(expires, now), rate=_rate(rate, burst), now=now
        )
        if as_json:
            typer.echo(json.dumps(_as_json(record, now) | {"key": text}))
            return
        errors.print(f"The key {record.id} of {name}, shown this once:", highlight=False, markup=False)
        typer.echo(text)


@key.command("list")
def list_keys(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Every key that was ever made: whose, for what, until when."""
    with clear_errors():
        choose(environment)
        from serving.access_store import open_key_store

        records, now = open_key_store(load_environment()).records(), time.time()
        if as_json:
            typer.echo(json.dumps([_as_json(record, now) for record in records]))
        elif records:
            console.print(_table(records, now))
        else:
            console.print("There is no key. Make one: `mlway key create NAME --scope PRODUCT:predict`.")


@key.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `mlway key list` shows it.")],
    environment: EnvironmentOption = None,
) -> None:
    """End a key for good. Endpoints refuse it within `access.refresh_seconds`."""
    with clear_errors():
        choose(environment)
        from serving.access_store import open_key_store

        chosen = load_environment()
        record = open_key_store(chosen).revoke(key_id)
        console.print(
            f"Revoked {record.id} ({record.name}). Endpoints refuse it within {chosen.access.refresh_seconds:g} s.",
            highlight=False,
            markup=False,
        )


def _expiry(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    try:
        expires_at = now + float(parse_duration(text).total_seconds())
        datetime.fromtimestamp(expires_at, UTC)
    except (ValueError, OverflowError) as error:
        raise KeyOptionError(f"--expires {text}: {error}.\nHint: for example --expires 90d.") from None
    if expires_at <= now:
        raise KeyOptionError(f"--expires {text}: the key would never be valid.\nHint: for example --expires 90d.")
    return expires_at


def _rate(rate: float | None, burst: int | None) -> "RateLimit | None":
    from serving.api_keys import RateLimit

    if rate is None:
        if burst is not None:
            raise KeyOptionError("--burst says nothing without --rate.\nHint: for example --rate 100 --burst 200.")
        return None
    whole = max(1, round(rate)) if burst is None and 0 < rate < 1e9 else burst
    if not 0 < rate < 1e9 or whole is None or not 1 <= whole < 1e9:
        raise KeyOptionError(
            f"--rate {rate:g} --burst {burst}: both must be above 0 and below a billion.\n"
            "Hint: for example --rate 100 --burst 200; no limit without them."
        )
    return RateLimit(rate, whole)


def _as_json(record: "KeyRecord", now: float) -> dict[str, Any]:
    """All but the hash, which is of no use to anybody who is not the endpoint."""
    fields = asdict(record)
    del fields["digest"]
    for moment in ("created_at", "expires_at", "revoked_at"):
        fields[moment] = _moment(fields[moment])
    return fields | {"state": record.state(now)}


def _moment(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _table(records: "list[KeyRecord]", now: float) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Keys")
    table.add_column("id", min_width=16)  # whole, in the narrowest terminal: it is what `revoke` takes
    for heading in ("name", "scopes", "created", "expires", "state", "rate"):
        table.add_column(heading, overflow="fold")
    for record in records:
        rate = f"{record.rate.requests_per_second:g}/s, {record.rate.burst} at once" if record.rate else "no limit"
        expires = _moment(record.expires_at) or "never"
        cells = (record.id, record.name, "\n".join(record.scopes), _moment(record.created_at) or "", expires)
        table.add_row(*map(Text, cells), record.state(now), rate)
    return table
