"""`mlway key`: what it prints, what it refuses, and that endpoints see what it did."""

import json
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from configs.load import load_environment, load_project
from mlway_assets.cli import app
from serving.access import Access, AccessError, build_access

PRODUCTS = load_project().products
SCOPE = ("--scope", "flight_delay:predict")


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLWAY_STATE", str(tmp_path / "state"))


@pytest.fixture
def access() -> Iterator[Access]:
    """The guard of a replica that starts when the test begins to use it."""
    guard = build_access(load_environment("local"))
    yield guard
    guard.close()


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["key", *words])


def listed() -> list[dict[str, Any]]:
    done = run("list", "--json")
    assert done.exit_code == 0
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_created_key_is_all_that_is_printed_and_lets_its_owner_in(access: Access) -> None:
    done = run("create", "shop", *SCOPE)
    assert done.exit_code == 0
    key = done.stdout.strip()
    assert "shown this once" in done.stderr
    access.start()
    assert access.admit(f"Bearer {key}", None, "flight_delay", "predict").name == "shop"
    with pytest.raises(AccessError, match="needs the scope flight_delay:explain"):
        access.admit(f"Bearer {key}", None, "flight_delay", "explain")


def test_a_key_is_nowhere_in_the_state(tmp_path: Path) -> None:
    secret = run("create", "shop", *SCOPE).stdout.strip().rsplit("_", 1)[1].encode()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret in path.read_bytes()]


def test_the_list_shows_everything_but_keys_and_their_hashes() -> None:
    options = ("--expires", "90d", "--rate", "100", "--burst", "200", "--scope", "*:explain", "--json")
    created = json.loads(run("create", "shop", *SCOPE, *options).stdout)
    key = created.pop("key")
    assert listed() == [created]
    assert (created["name"], created["state"]) == ("shop", "active")
    assert created["scopes"] == ["flight_delay:predict", "*:explain"]
    assert created["rate"] == {"requests_per_second": 100.0, "burst": 200}
    expires = datetime.fromisoformat(created["expires_at"])
    assert timedelta(days=89.9) < expires - datetime.now(UTC) <= timedelta(days=90)
    assert key.split("_")[1] == created["id"]
    assert "digest" not in created
    table = run("list").stdout
    assert created["id"] in table
    assert key.split("_")[2] not in table


def test_a_revoked_key_says_so_in_the_list() -> None:
    created = json.loads(run("create", "shop", *SCOPE, "--json").stdout)
    done = run("revoke", created["id"])
    assert (done.exit_code, done.stdout) == (0, f"Revoked {created['id']} (shop). Endpoints refuse it within 2 s.\n")
    assert [key["state"] for key in listed()] == ["revoked"]


def test_before_the_first_key_the_list_says_how_to_make_one() -> None:
    assert listed() == []
    assert "mlway key create" in run("list").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scope", "flight_dealy:predict"), f"is of no product. Known: {', '.join(sorted(PRODUCTS))}, *."),
        (
            ("--scope", "flight_delay:predcit"),
            "is of no action. Known: predict, explain, decisions:read, train, admin.",
        ),
        (("--scope", "flight_delay"), "is of no action"),
        (("--scope", ""), "is of no product"),
        ((*SCOPE, "--scope", "*:*"), "is of no action"),
        ((*SCOPE, "--expires", "soon"), "a whole number and a unit: 30s, 15m, 2h or 28d"),
        ((*SCOPE, "--expires", "0d"), "would never be valid"),
        ((*SCOPE, "--expires", "999999999d"), "--expires 999999999d"),
        ((*SCOPE, "--expires", "99999999999999999999d"), "--expires 99999999999999999999d"),
        ((*SCOPE, "--burst", "5"), "says nothing without --rate"),
        ((*SCOPE, "--rate", "0"), "must be above 0"),
        ((*SCOPE, "--rate", "nan"), "must be above 0"),
        ((*SCOPE, "--rate", "inf"), "must be above 0"),
        ((*SCOPE, "--rate", "5", "--burst", "0"), "must be above 0"),
    ],
)
def test_options_that_make_no_sense_are_named_and_make_no_key(words: tuple[str, ...], message: str) -> None:
    done = run("create", "shop", *words)
    assert done.exit_code == 1
    assert message in done.stderr
    assert "Hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert listed() == []


def test_a_key_needs_a_scope() -> None:
    assert run("create", "shop").exit_code == 2


def test_revoking_an_unknown_key_says_where_to_look() -> None:
    done = run("revoke", "0" * 16)
    assert done.exit_code == 1
    assert "mlway key list" in done.stderr


def test_an_unreachable_database_is_an_error_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path("configs/environments/local.yaml").read_text(encoding="utf-8")
    address = 'access: {database: "postgresql://clerk@/keys?host=/nowhere", password_secret: KEYS_PASSWORD}'
    lines = [address if line.startswith("access:") else line for line in file.splitlines()]
    (tmp_path / "other.yaml").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("MLWAY_ENVIRONMENT", "local")
    monkeypatch.setenv("KEYS_PASSWORD", "hunter2")
    done = run("list", "--environment", str(tmp_path / "other.yaml"))
    assert done.exit_code == 1
    assert "does not answer: " in done.stderr
    assert "hunter2" not in done.stderr


def test_a_file_of_keys_is_made_for_its_owner_only(tmp_path: Path) -> None:
    run("create", "shop", *SCOPE)
    assert stat.S_IMODE((tmp_path / "state" / "access.db").stat().st_mode) == 0o600
