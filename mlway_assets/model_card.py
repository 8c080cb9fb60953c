"""The model card of a registered version: its facts are gathered once, when it is registered, and kept with its run.

Approvals come later, so they are read anew whenever the card is shown. What the card looks like is in compute/.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from configs.errors import MlwayError
from configs.products import ModelProduct
from configs.schema import format_duration
from mlway_assets.approvals import approvals_of
from mlway_assets.compute.card import DataFacts, ModelCard
from mlway_assets.compute.card_facts import (
    CONFIDENCE,
    fairness_facts,
    metric_facts,
    part_facts,
    rule_facts,
    scored_parts,
    slice_facts,
)
from mlway_assets.compute.card_page import card_page
from mlway_assets.compute.gate import GateRule
from mlway_assets.explanation import read_summary
from mlway_assets.registry import TRAINING_REASON_TAG, ModelVersion, Registry
from mlway_assets.resources import Platform
from mlway_assets.run_files import add_files, read_file, read_folder
from mlway_assets.software import SOFTWARE_FILE, bill_of_materials
from mlway_assets.training_sets import LAYER, TrainingSetVersion, as_declared, find_training_set
from serving.scoring import load_model

CARD_FILE, PAGE_FILE = "card/card.json", "card/card.html"


class MissingCardError(MlwayError):
    """A version has no card."""

    def __init__(self, version: ModelVersion) -> None:
        super().__init__(
            f"Version {version.version} of {version.product} has no model card: the graph has not registered it.\n"
            "Hint: `mlway materialize train` registers a candidate with its card."
        )


def record_card(product: ModelProduct, platform: Platform, version: ModelVersion, rules: Sequence[GateRule]) -> None:
    """Gather a new version's facts and the software that made it, and keep both with its run.

    `rules` are the gate's as the version has met them. Facts that are there already stay: they tell of then.
    Raises TrainingSetError, MissingVersionError, ModelFileError.
    """
    registry = platform.registry
    if read_file(registry, version.run_id, CARD_FILE) is not None:
        return
    card = _gathered(product, platform, version, rules)
    files = {CARD_FILE: card_json(card), SOFTWARE_FILE: bill_of_materials()}
    add_files(registry, version.run_id, files)


def publish_card(registry: Registry, version: ModelVersion) -> None:
    """Write the card's page, with the approvals known by now, beside its facts. Raises MissingCardError."""
    add_files(registry, version.run_id, {PAGE_FILE: card_html(registry, read_card(registry, version)).encode()})


def read_card(registry: Registry, version: ModelVersion) -> ModelCard:
    """The card of a version, with the approvals known by now. Raises MissingCardError."""
    text = read_file(registry, version.run_id, CARD_FILE)
    card = None if text is None else ModelCard.model_validate_json(text)
    if card is None or card.version != version.version:
        raise MissingCardError(version)
    return card.model_copy(update={"approvals": approvals_of(registry, version)})


def card_json(card: ModelCard) -> bytes:
    """The card for programs."""
    return card.model_dump_json(indent=1).encode()


def card_html(registry: Registry, card: ModelCard) -> str:
    """The card for people: one file with everything in it, the pictures of the run included."""
    return card_page(card, read_folder(registry, card.run_id, "plots"))


def _gathered(product: ModelProduct, platform: Platform, version: ModelVersion, rules: Sequence[GateRule]) -> ModelCard:
    registry = platform.registry
    recorded = find_training_set(product.name, registry.training_set_version(version), platform)
    declared, _ = as_declared(recorded)
    cut = product.with_split(declared.training.split)
    rows = platform.lake.scan(LAYER, product.name, recorded.version).collect()
    parts = scored_parts(cut, rows, load_model(version.folder, version.digest))
    run = registry.client.get_run(version.run_id).data
    created = registry.client.get_model_version(product.name, str(version.version)).creation_timestamp
    return ModelCard(
        product=product.name,
        version=version.version,
        description=product.description,
        owner=product.owner,
        task=product.task,
        digest=version.digest,
        run_id=version.run_id,
        registered_at=datetime.fromtimestamp(created / 1000, UTC),
        use=product.card,
        reason=run.tags.get(TRAINING_REASON_TAG),
        algorithm=run.params["algorithm"],
        parameters=dict(sorted(run.params.items())),
        data=_data(cut, recorded, run.tags["mlway.git_commit"]).model_copy(update={"parts": part_facts(cut, rows)}),
        interval_confidence=CONFIDENCE,
        metrics=metric_facts(cut, parts, version.metrics),
        gate_metric=product.gate.metric_name,
        slices=slice_facts(cut, parts["test"]),
        fairness=fairness_facts(cut, parts["test"]),
        contributions=read_summary(registry, version.run_id),
        gate=rule_facts(rules),
    )


def _data(product: ModelProduct, recorded: TrainingSetVersion, commit: str) -> DataFacts:
    record = recorded.record
    return DataFacts(
        training_set=recorded.version,
        sha256=record.sha256,
        rows=record.rows,
        inputs=dict(sorted(record.inputs.items())),
        label=product.label.expression,
        horizon=format_duration(product.population.horizon),
        features=record.features,
        feature_definitions=record.feature_definitions,
        git_commit=commit,
        parts=(),
    )
