"""The key that a person at this machine uses: made once, kept in a file that only its owner reads."""

import fcntl
import os
import time
from hmac import compare_digest
from pathlib import Path

from configs.environments import Environment
from mlway_assets.local.paths import local_paths
from serving.access_store import KeyStore, open_key_store
from serving.api_keys import digest_of, read_key

NAME, SCOPES = "local", ("*:admin",)


def local_key(environment: Environment) -> str:
    """The text of a valid key that may do everything; a new one where there is none, or no longer a valid one.

    It lies in `local_paths(environment).local_key`. Raises KeyStoreError.
    """
    file = local_paths(environment).local_key
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    store = open_key_store(environment)
    # Two that start at once must not each make a key, of which one would be lost.
    with (file.parent / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = _read(file)
        if text is None or not _is_valid(text, store):
            _, text = store.create(NAME, SCOPES)
            _write(file, text)
    return text


def _read(file: Path) -> str | None:
    if not file.is_file():
        return None
    file.chmod(0o600)
    return file.read_bytes().decode("ascii", errors="replace").strip()


def _is_valid(text: str, store: KeyStore) -> bool:
    parts = read_key(text)
    record = {record.id: record for record in store.records()}.get(parts[0]) if parts else None
    if parts is None or record is None:
        return False
    is_its_secret = compare_digest(digest_of(parts[1]), record.digest)
    return is_its_secret and record.state(time.time()) == "active" and record.scopes == SCOPES


def _write(file: Path, text: str) -> None:
    """Whole or not at all, and never readable by others."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as output:  # noqa: PTH123
        output.write(f"{text}\n")
    unfinished.replace(file)
