"""The checks of a version, as Dagster recorded them in the runs that made it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from configs.schema import Frozen
from mlway_assets.asset_keys import candidate_key, registered_version_key, training_set_key
from mlway_assets.assets.models import RUN_ID
from mlway_assets.compute.card import ModelCard

_PAGE = 50
_PICTURE = "![plot](data:"


class RecordedCheck(Frozen):
    """One asset check in one run of Dagster: whether it passed, and what it said."""

    asset: str
    check: str
    passed: bool
    severity: str
    description: str | None
    at: datetime
    dagster_run: str
    metadata: dict[str, Any]


def checks_of(card: ModelCard, instance: dg.DagsterInstance) -> list[RecordedCheck]:
    """Those of the training set and of the candidate, in the order in which they were made.

    Empty where the event log does not know the run that made the candidate.
    """
    candidate = _run_of(instance, candidate_key(card.product), RUN_ID, card.run_id)
    if candidate is None:
        return []
    training_set = _run_of(instance, training_set_key(card.product), "delta_version", card.data.training_set)
    keys = {key(card.product) for key in (training_set_key, candidate_key, registered_version_key)}
    runs = [run for run in dict.fromkeys((training_set, candidate)) if run is not None]
    return [
        _recorded(run, evaluation, at)
        for run in runs
        for evaluation, at in _evaluations(instance, run)
        if evaluation.asset_key in keys
    ]


def _run_of(instance: dg.DagsterInstance, key: dg.AssetKey, name: str, value: object) -> str | None:
    """The run whose materialization of `key` says that; the newest, where it was said twice."""
    for record in _materializations(instance, key):
        said = record.asset_materialization.metadata.get(name) if record.asset_materialization else None
        if said is not None and said.value == value:
            return record.run_id
    return None


def _materializations(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[dg.EventLogRecord]:
    """Newest first."""
    cursor = None
    while True:
        page = instance.fetch_materializations(key, limit=_PAGE, cursor=cursor)
        yield from page.records
        if not page.has_more:
            return
        cursor = page.cursor


def _evaluations(instance: dg.DagsterInstance, run: str) -> Iterator[tuple[dg.AssetCheckEvaluation, datetime]]:
    for record in instance.get_records_for_run(run, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records:
        event = record.event_log_entry.dagster_event
        if event is not None:
            yield event.asset_check_evaluation_data, datetime.fromtimestamp(record.event_log_entry.timestamp, UTC)


def _recorded(run: str, found: dg.AssetCheckEvaluation, at: datetime) -> RecordedCheck:
    said = {name: value.value for name, value in found.metadata.items()}
    return RecordedCheck(
        asset=found.asset_key.to_user_string(),
        check=found.check_name,
        passed=found.passed,
        severity=found.severity.value,
        description=found.description,
        at=at,
        dagster_run=run,
        metadata={name: value for name, value in said.items() if not str(value).startswith(_PICTURE)},
    )
