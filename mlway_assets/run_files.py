"""Files and figures that are added to a run of MLflow after it has ended, and files that are read from it."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlway_assets.registry import Registry


def add_files(registry: Registry, run_id: str, files: Mapping[str, bytes]) -> None:
    """Keep files, by their paths, with a run; a file that is there already is replaced."""
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        _store(registry, run_id).log_artifacts(folder)


def read_file(registry: Registry, run_id: str, path: str) -> bytes | None:
    """A file of a run; None where it has none of that path."""
    folder, _, name = path.rpartition("/")
    return _read(registry, run_id, folder, name).get(name)


def read_folder(registry: Registry, run_id: str, folder: str) -> dict[str, bytes]:
    """The files right in a folder of a run, by their names in it."""
    return _read(registry, run_id, folder, None)


def add_metrics(registry: Registry, run_id: str, metrics: Mapping[str, float]) -> None:
    """Record more figures of a run."""
    for name, value in metrics.items():
        registry.client.log_metric(run_id, name, value)


def _read(registry: Registry, run_id: str, folder: str, name: str | None) -> dict[str, bytes]:
    store = _store(registry, run_id)
    paths = {item.path.rpartition("/")[2]: item.path for item in store.list_artifacts(folder) if not item.is_dir}
    with tempfile.TemporaryDirectory() as target:
        return {
            found: Path(store.download_artifacts(paths[found], target)).read_bytes()
            for found in sorted(paths)
            if name in (None, found)
        }


def _store(registry: Registry, run_id: str) -> Any:
    """Where the run keeps its files. MLflow's client remembers that by the run alone, whatever registry asks."""
    address = registry.client.get_run(run_id).info.artifact_uri
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(address, registry.environment.experiments.tracking_uri)
