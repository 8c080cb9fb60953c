"""The compliance pack of a version: one zip with all that an auditor asks for, each file with its hash."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from mlway_assets.compute.card import ModelCard
from mlway_assets.compute.sealed_zip import sealed_zip
from mlway_assets.model_card import card_html, card_json, read_card
from mlway_assets.recorded_checks import RecordedCheck, checks_of
from mlway_assets.registry import ModelVersion
from mlway_assets.resources import Platform
from mlway_assets.run_files import read_file
from mlway_assets.software import SOFTWARE_FILE
from mlway_assets.training_sets import find_training_set
from serving.scoring import load_model, model_file_hashes

_README = """\
What version {version} of {product} is, what made it, what it was checked for, and who approved it.

card.html, card.json   the model card: intended use, limits, metrics by slice, the gate's rules
data.json              the training set: version, SHA-256 of its content and of each column, versions of all tables read
configuration.json     the product and its features as they were declared for this version
checks.json            every check of the training set and of the candidate, with its result, from Dagster's event log
approvals.json         who made it champion, and when
model.json             run, parameters, metrics, git commit, and the SHA-256 of each of the model's files
software.cdx.json      the software that made it, as a CycloneDX bill of materials
MANIFEST.sha256        the SHA-256 of each of these files: `sha256sum -c MANIFEST.sha256`, or `mlway evidence --verify`
{missing}"""


@dataclass(frozen=True)
class Evidence:
    """The files of a pack by name, and in words what is not there and should be."""

    files: dict[str, bytes]
    missing: tuple[str, ...]

    def sealed(self) -> bytes:
        """The zip; the same bytes for the same files."""
        return sealed_zip(self.files)


def evidence_of(version: ModelVersion, platform: Platform, instance: dg.DagsterInstance) -> Evidence:
    """Gather it. Raises MissingCardError, TrainingSetError, ModelFileError."""
    registry = platform.registry
    card = read_card(registry, version)
    load_model(version.folder, version.digest)  # the files that are hashed below are the registered ones
    training_set = find_training_set(version.product, card.data.training_set, platform)
    checks = checks_of(card, instance)
    missing = _missing(card, checks)
    files = {
        "README.txt": _readme(card, missing).encode(),
        "card.html": card_html(registry, card).encode(),
        "card.json": card_json(card),
        "data.json": _json(training_set.as_json()),
        "configuration.json": _json(training_set.record.declarations),
        "checks.json": _json([check.model_dump(mode="json") for check in checks]),
        "approvals.json": _json([approval.model_dump(mode="json") for approval in card.approvals]),
        "model.json": _json(_model(platform, version)),
    }
    software = read_file(registry, version.run_id, SOFTWARE_FILE)
    return Evidence(files | ({} if software is None else {"software.cdx.json": software}), missing)


def write_evidence(found: Evidence, file: Path) -> None:
    """All of it or nothing: a pack that was cut off is no pack."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(file.name + ".unfinished")
    unfinished.write_bytes(found.sealed())
    unfinished.replace(file)


def _missing(card: ModelCard, checks: Sequence[RecordedCheck]) -> tuple[str, ...]:
    found = []
    if not checks:
        found.append(f"Dagster's event log does not know the run that made {card.run_id}: its checks are not here.")
    if not card.approvals:
        found.append("Nobody has approved the version.")
    elif any(approval.by is None for approval in card.approvals):
        found.append("The champion's alias was moved without `mlway promote`: by whom and when is not recorded.")
    return tuple(found)


def _readme(card: ModelCard, missing: Sequence[str]) -> str:
    lines = "".join(f"\nNot in this pack: {line}" for line in missing)
    return _README.format(product=card.product, version=card.version, missing=lines + "\n" if lines else "")


def _model(platform: Platform, version: ModelVersion) -> dict[str, Any]:
    run = platform.registry.client.get_run(version.run_id).data
    tags = {name: value for name, value in sorted(run.tags.items()) if name.startswith("mlway.")}
    return {
        "product": version.product,
        "version": version.version,
        "digest": version.digest,
        "files": model_file_hashes(version.folder),
        "run_id": version.run_id,
        "git_commit": tags["mlway.git_commit"],
        "parameters": dict(sorted(run.params.items())),
        "metrics": dict(sorted(run.metrics.items())),
        "tags": tags,
    }


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode()
