"""The key of whoever works at this machine."""

import dataclasses
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.environments import Environment
from configs.load import load_environment
from mlway_assets.local.local_key import local_key
from mlway_assets.local.paths import local_paths
from serving.access import build_access
from serving.access_store import KeyStore, open_key_store


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("MLWAY_STATE", str(tmp_path / "state"))
    return load_environment("local")


@pytest.fixture
def store(environment: Environment) -> KeyStore:
    return open_key_store(environment)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_may_do_everything_with_every_product(environment: Environment) -> None:
    access = build_access(environment)
    key = local_key(environment)
    access.start()
    try:
        assert access.admit(f"Bearer {key}", None, "any_product", "decisions:read").name == "local"
    finally:
        access.close()


def test_it_lies_in_a_file_that_only_its_owner_reads(environment: Environment) -> None:
    key = local_key(environment)
    file = local_paths(environment).local_key
    assert file == environment.state / "keys" / "local"
    assert file.read_text(encoding="ascii") == f"{key}\n"
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)


def test_it_is_made_once(environment: Environment, store: KeyStore) -> None:
    assert local_key(environment) == local_key(environment)
    assert [record.name for record in store.records()] == ["local"]


def test_rights_that_were_widened_are_narrowed_again(environment: Environment) -> None:
    key = local_key(environment)
    file = local_paths(environment).local_key
    file.chmod(0o644)
    file.parent.chmod(0o755)
    assert local_key(environment) == key
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)


def test_a_revoked_one_is_replaced(environment: Environment, store: KeyStore) -> None:
    key = local_key(environment)
    store.revoke(key.split("_")[1])
    renewed = local_key(environment)
    assert renewed != key
    assert local_key(environment) == renewed
    assert [record.state(time.time()) for record in store.records()].count("active") == 1


def test_an_expired_one_is_replaced(environment: Environment, store: KeyStore) -> None:
    record, text = store.create("local", ("*:admin",), expires_at=time.time() - 1)
    file = local_paths(environment).local_key
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="ascii")
    assert local_key(environment) != text
    assert dataclasses.asdict(record)["expires_at"] is not None


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"no key", b"mlway_" + b"0" * 16 + b"_" + b"0" * 64])
def test_a_file_that_holds_no_key_of_this_store_is_replaced(environment: Environment, content: bytes) -> None:
    file = local_paths(environment).local_key
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert local_key(environment) == file.read_text(encoding="ascii").strip()


def test_a_key_of_another_store_is_replaced(environment: Environment) -> None:
    key = local_key(environment)
    Path(environment.access_database.removeprefix("sqlite:///")).unlink()
    assert local_key(environment) != key


def test_a_wrong_secret_behind_a_known_id_is_replaced(environment: Environment) -> None:
    key = local_key(environment)
    file = local_paths(environment).local_key
    file.write_text(key[:-1] + ("0" if key[-1] != "0" else "1"), encoding="ascii")
    assert local_key(environment) != key


def test_what_a_killed_creation_left_behind_is_no_obstacle(environment: Environment) -> None:
    folder = local_paths(environment).local_key.parent
    folder.mkdir(parents=True)
    (folder / ".local.unfinished").write_text("half", encoding="ascii")
    assert local_key(environment)
    assert not (folder / ".local.unfinished").exists()


def test_processes_that_start_at_once_make_one(environment: Environment, store: KeyStore) -> None:
    code = (
        "from configs.load import load_environment; from mlway_assets.local.local_key import local_key; "
        "print(local_key(load_environment('local')))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    keys = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(keys) == len(store.records()) == 1
