"""Create MLflow's database whole or not at all.

MLflow's migrations run statement by statement in SQLite: a process that is killed among them leaves a database that no
later start can mend.
"""

import fcntl
import importlib
import logging
import os
import warnings
from pathlib import Path

_SQLITE = "sqlite:///"


def tracking_database_exists(uri: str) -> bool:
    """Whether the database is there; a server's counts as there."""
    return not uri.startswith(_SQLITE) or Path(uri.removeprefix(_SQLITE)).exists()


def quiet_mlflow() -> None:
    """Import MLflow without its telemetry, and keep what it says of itself out of terminals."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    importlib.import_module("mlflow")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", category=DeprecationWarning)


def ensure_tracking_database(uri: str) -> None:
    """Make MLflow's SQLite database, with all tables, if there is none. A database server's is left to MLflow."""
    if tracking_database_exists(uri):
        return
    path = Path(uri.removeprefix(_SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{path}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = Path(f"{path}.unfinished")
            unfinished.unlink(missing_ok=True)
            _create(unfinished)
            unfinished.replace(path)


def _create(path: Path) -> None:
    quiet_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(f"{_SQLITE}{path}", path.parent.as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
