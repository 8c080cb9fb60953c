"""MLflow's database is there whole or not at all."""

import subprocess
import sys
import time
from pathlib import Path

from mlway_assets.tracking_database import ensure_tracking_database, tracking_database_exists

CREATE = "import sys; from mlway_assets.tracking_database import ensure_tracking_database as e; e(sys.argv[1])"


def test_a_creation_that_is_killed_leaves_nothing_and_the_next_one_completes(tmp_path: Path) -> None:
    uri, unfinished = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db.unfinished"
    process = subprocess.Popen([sys.executable, "-c", CREATE, uri])
    while not (unfinished.exists() and unfinished.stat().st_size > 100_000):  # tables are being made
        assert process.poll() is None, "the creation ended before it could be killed"
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not tracking_database_exists(uri)
    ensure_tracking_database(uri)
    from mlflow import MlflowClient

    assert MlflowClient(uri, uri).get_experiment("0").name == "Default"


def test_a_database_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"mine")
    ensure_tracking_database(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == b"mine"
