"""The feature store as it once was: declarations that are given, not registered, over tables at given versions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from configs.environments import Environment
from configs.load import Project
from feature_repo.store import open_store

if TYPE_CHECKING:
    from feast import FeatureStore


@contextmanager
def former_store(environment: Environment, project: Project, versions: Mapping[str, int]) -> Iterator["FeatureStore"]:
    """A store of `project`'s features that reads the table at each path of `versions` at that Delta version.

    It has a registry of its own for as long as it is open, and no online store: what is registered and served stays.
    """
    from feature_repo.objects import build_objects

    with TemporaryDirectory(prefix="mlway-former-store-") as folder:
        settings = {
            "registry": {"path": f"sqlite:///{Path(folder) / 'registry.db'}"},
            "online_store": None,
            "offline_store": {"versions": dict(versions)},
        }
        store = open_store(environment, settings)
        store.apply(build_objects(project, environment))
        yield store
