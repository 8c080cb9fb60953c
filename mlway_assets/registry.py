"""Experiment tracking and the model registry, kept by MLflow; the registered files, kept in the model store.

A version's files are copied to `MODEL_STORE/PRODUCT/VERSION/`, from which endpoints load them without MLflow.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.environments import Environment
from configs.errors import MlwayError
from configs.load import PROJECT_ROOT
from mlway_assets.tracking_database import ensure_tracking_database, quiet_mlflow, tracking_database_exists
from serving.scoring import model_digest, model_files, write_model

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from numpy.typing import NDArray

    from mlway_assets.compute.training import Candidate

CHAMPION = "champion"
CHALLENGER = "challenger"
DIGEST_TAG = "mlway.digest"
SCORING_FOLDER = "scoring"
TRAINING_SET_TAG = "mlway.training_set_version"
TRAINING_REASON_TAG = "mlway.reason"
"""Of a run: why it was trained."""


class MissingChampionError(MlwayError):
    """A product has no champion."""

    def __init__(self, product: str) -> None:
        super().__init__(f"{product!r} has no champion yet.\nHint: run `mlway materialize train`.")


class UnknownVersionError(MlwayError):
    """A product has no registered version of that number."""

    def __init__(self, product: str, number: int, known: Sequence[int]) -> None:
        listed = ", ".join(str(version) for version in known) or "none"
        super().__init__(
            f"{product!r} has no registered version {number}. Known: {listed}.\n"
            "Hint: `mlway materialize train` registers a candidate that passes the gate."
        )


@dataclass(frozen=True)
class ModelVersion:
    """A registered version: where its files are and what they must hash to."""

    product: str
    version: int
    digest: str
    run_id: str
    folder: Path
    metrics: Mapping[str, float]


class UnknownTrainingSetError(MlwayError):
    """A version does not say what it has learned from."""

    def __init__(self, found: ModelVersion) -> None:
        super().__init__(
            f"The run {found.run_id} of {found.product} version {found.version} has no tag {TRAINING_SET_TAG!r}.\n"
            "Hint: it was not trained here; `mlway materialize train` makes one that can be watched."
        )


@dataclass(frozen=True)
class Registry:
    """One environment's runs and registered models."""

    environment: Environment

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client. The first use creates the database."""
        quiet_mlflow()
        import mlflow

        uri = self.environment.experiments.tracking_uri
        ensure_tracking_database(uri)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        return mlflow.MlflowClient(uri, uri)

    def exists(self) -> bool:
        """Whether the registry's database is there; asking it would create it."""
        return tracking_database_exists(self.environment.experiments.tracking_uri)

    def log_candidate(
        self,
        candidate: "Candidate",
        parameters: Mapping[str, object],
        tags: Mapping[str, str],
        figures: Mapping[str, "Figure"],
        example: "NDArray[np.float64]",
    ) -> str:
        """Record a trained candidate with all that made it; returns the run's id."""
        _ = self.client  # points MLflow to this environment
        import mlflow

        product = candidate.contract.product
        experiment = self._experiment(product)
        self._close_abandoned_runs(experiment)
        with (
            mlflow.start_run(experiment_id=experiment, tags=dict(tags)) as run,
            tempfile.TemporaryDirectory() as folder,
        ):
            digest = write_model(
                candidate.model_text, candidate.contract, Path(folder) / SCORING_FOLDER, bounds=candidate.bounds
            )
            mlflow.log_params({**parameters, "rounds_used": candidate.rounds})
            mlflow.log_metrics(candidate.metrics)
            mlflow.set_tag(DIGEST_TAG, digest)
            for name, figure in figures.items():
                mlflow.log_figure(figure, f"plots/{name}.png")
            mlflow.log_artifacts(folder)
            _log_flavor(candidate, example)
        return str(run.info.run_id)

    def register(self, product: str, run_id: str) -> ModelVersion:
        """The run's version in the registry, made if it is not there yet, with its files in the model store.

        It becomes the challenger. Safe to repeat: a registration that was cut off is completed.
        """
        client = self.client
        self._ensure_registered_model(product)
        self._remove_unfinished(product, run_id)
        found = client.search_model_versions(f"name='{product}' and run_id='{run_id}'")
        version = found[0] if found else client.create_model_version(product, f"runs:/{run_id}/model", run_id)
        digest = client.get_run(run_id).data.tags[DIGEST_TAG]
        try:
            self._publish(product, int(version.version), run_id, digest)
        except OSError:
            if DIGEST_TAG not in version.tags:
                client.delete_model_version(product, version.version)
            raise
        client.set_model_version_tag(product, version.version, DIGEST_TAG, digest)
        client.set_registered_model_alias(product, CHALLENGER, version.version)
        return self._describe(client.get_model_version(product, version.version))

    def promote(self, product: str, version: int) -> None:
        """Make `version` the champion."""
        self.client.set_registered_model_alias(product, CHAMPION, str(version))

    def champion(self, product: str) -> ModelVersion | None:
        """The version that answers, or None before the first one."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_model_version_by_alias(product, CHAMPION)
        except MlflowException as error:
            # A missing model is RESOURCE_DOES_NOT_EXIST to MLflow, a missing alias INVALID_PARAMETER_VALUE.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return self._describe(found)

    def versions(self, product: str) -> list[ModelVersion]:
        """Every registered version, oldest first."""
        found = self.client.search_model_versions(f"name='{product}'")
        return sorted((self._describe(each) for each in found), key=lambda version: version.version)

    def require_version(self, product: str, number: int | None) -> ModelVersion:
        """A version by its number, or the champion. Raises UnknownVersionError, MissingChampionError."""
        if number is None and self.exists():
            return self.require_champion(product)
        if number is None:
            raise MissingChampionError(product)
        versions = self.versions(product) if self.exists() else []
        for version in versions:
            if version.version == number:
                return version
        raise UnknownVersionError(product, number, [version.version for version in versions])

    def require_champion(self, product: str) -> ModelVersion:
        """The version that answers. Raises MissingChampionError."""
        champion = self.champion(product)
        if champion is None:
            raise MissingChampionError(product)
        return champion

    def training_set_version(self, found: ModelVersion) -> int:
        """The version of the training set that a version has learned from. Raises UnknownTrainingSetError."""
        tag = self.client.get_run(found.run_id).data.tags.get(TRAINING_SET_TAG)
        if tag is None:
            raise UnknownTrainingSetError(found)
        return int(tag)

    def run_folder(self, run_id: str) -> Path:
        """A local copy of a run's scoring files."""
        import mlflow

        return Path(
            mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=SCORING_FOLDER, tracking_uri=self.environment.experiments.tracking_uri
            )
        )

    def _experiment(self, product: str) -> str:
        found = self.client.get_experiment_by_name(product)
        if found is not None:
            return str(found.experiment_id)
        location = Path(self.environment.experiments.artifacts) / product
        return str(self.client.create_experiment(product, artifact_location=location.as_uri()))

    def _close_abandoned_runs(self, experiment: str) -> None:
        # Trainings of a product run one at a time, so a run that still counts as running was killed.
        for run in self.client.search_runs([experiment], "attributes.status = 'RUNNING'"):
            self.client.set_terminated(run.info.run_id, "KILLED")

    def _ensure_registered_model(self, product: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(product)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _remove_unfinished(self, product: str, run_id: str) -> None:
        """Versions of other runs whose registration was cut off: no alias names them, and nobody completes them."""
        for version in self.client.search_model_versions(f"name='{product}'"):
            if DIGEST_TAG not in version.tags and version.run_id != run_id:
                self.client.delete_model_version(product, version.version)
                shutil.rmtree(self._folder(product, int(version.version)), ignore_errors=True)

    def _publish(self, product: str, version: int, run_id: str, digest: str) -> None:
        target = self._folder(product, version)
        if target.is_dir() and model_digest(target) == digest:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".publishing-") as temporary:
            ready = Path(temporary) / "files"
            ready.mkdir()
            source = self.run_folder(run_id)
            for name in model_files(source):
                shutil.copyfile(source / name, ready / name)
            if target.exists():
                shutil.rmtree(target)
            ready.rename(target)

    def _folder(self, product: str, version: int) -> Path:
        return Path(self.environment.model_store) / product / str(version)

    def _describe(self, found: Any) -> ModelVersion:
        version = int(found.version)
        metrics = self.client.get_run(found.run_id).data.metrics
        return ModelVersion(
            found.name,
            version,
            found.tags.get(DIGEST_TAG, ""),
            found.run_id,
            self._folder(found.name, version),
            metrics,
        )


def git_commit() -> str:
    """The commit of the working tree, marked when it differs; `unknown` outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("-dirty" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PROJECT_ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _log_flavor(candidate: "Candidate", example: "NDArray[np.float64]") -> None:
    """The native LightGBM flavor of the main booster, so that any MLflow tool can load the model."""
    import lightgbm
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature

    booster = lightgbm.Booster(model_str=candidate.model_text)
    inputs = pd.DataFrame(example, columns=list(candidate.contract.features))
    signature = infer_signature(inputs, booster.predict(example))
    requirements = [f"lightgbm=={lightgbm.__version__}"]
    mlflow.lightgbm.log_model(booster, name="model", signature=signature, pip_requirements=requirements)
