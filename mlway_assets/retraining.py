"""Open a product's training, whoever asks: the product's triggers, or a person. One decision, for sensors and replay.

What is known of trainings is in Dagster's own event log: what a former training was made from, and which runs are on
their way. So nothing is lost with a restart, and nothing is counted twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl

from configs.products import ModelProduct
from configs.retraining import Trigger
from feature_repo.expressions import parse
from mlway_assets.asset_keys import (
    candidate_key,
    input_drift_key,
    prediction_drift_key,
    quality_key,
    registered_version_key,
    training_set_key,
)
from mlway_assets.compute.triggers import Asked, Last, Opening, opens_training
from mlway_assets.jobs import TRAIN
from mlway_assets.resources import Platform
from serving.training_requests import TrainingRequest

AS_OF, LABELLED_ROWS, DAYS_PAST = "as_of", "labelled_rows", "days_past_their_limits"
"""Metadata of a training set and, last, of what is monitored."""
PRODUCT_TAG, REASON_TAG, REQUESTS_TAG = "mlway/product", "mlway/reason", "mlway/requests"
_WATCHED: Mapping[Trigger, Callable[[str], dg.AssetKey]] = {
    "input_drift": input_drift_key,
    "prediction_drift": prediction_drift_key,
    "quality": quality_key,
}
_ON_THEIR_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_MOST_TRAININGS = 50


@dataclass(frozen=True)
class Decision:
    """Whether a training is to begin: its reasons, the requests that it answers; or why it is not, where any asked."""

    product: str
    reasons: tuple[str, ...] = ()
    requests: tuple[TrainingRequest, ...] = ()
    held_back: str | None = None

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the run."""
        asked = {REQUESTS_TAG: ",".join(request.id for request in self.requests)} if self.requests else {}
        return {PRODUCT_TAG: self.product, REASON_TAG: "; ".join(self.reasons)[:1000]} | asked


def training_assets(product: str) -> list[dg.AssetKey]:
    """What a training of one product makes."""
    return [training_set_key(product), candidate_key(product), registered_version_key(product)]


def decide(
    product: ModelProduct, platform: Platform, instance: dg.DagsterInstance, requests: Sequence[TrainingRequest] = ()
) -> Decision:
    """Whether a training of the product begins now: by its triggers, or for `requests` that nobody has answered yet."""
    running = runs_on_their_way(product.name, instance)
    if running:
        why = f"training {running[0][:8]} is on its way"
        return Decision(product.name, requests=tuple(requests), held_back=why if requests else None)
    opening = _by_triggers(product, platform, instance)
    asked = tuple(f"{request.caller}: {request.reason}" for request in requests)
    reasons = tuple(dict.fromkeys((*asked, *opening.reasons)))
    return Decision(product.name, reasons, tuple(requests), None if reasons else opening.held_back)


def runs_on_their_way(product: str, instance: dg.DagsterInstance) -> list[str]:
    """The runs that train the product, or will."""
    key = candidate_key(product)
    return [
        run.run_id
        for run in instance.get_runs(dg.RunsFilter(statuses=_ON_THEIR_WAY))
        if (run.asset_selection is None and run.job_name == TRAIN) or key in (run.asset_selection or ())
    ]


def answered(product: str, requests: Sequence[TrainingRequest], instance: dg.DagsterInstance) -> list[TrainingRequest]:
    """Those that a run, whatever became of it, was started for."""
    if not requests:
        return []
    runs = instance.get_runs(dg.RunsFilter(tags={PRODUCT_TAG: product}), limit=_MOST_TRAININGS)
    ids = {name for run in runs for name in run.tags.get(REQUESTS_TAG, "").split(",")}
    return [request for request in requests if request.id in ids]


def labelled_rows(product: ModelProduct, platform: Platform) -> int:
    """Rows of the population whose labels are known by now."""
    label, now = product.label, pl.lit(platform.clock.now(), pl.Datetime("us", "UTC"))
    table = platform.lake.scan("curated", product.population.table)
    known = table.filter((pl.col(label.known_at) <= now) & parse(label.expression).is_not_null())
    return int(known.select(pl.len()).collect().item())


def _by_triggers(product: ModelProduct, platform: Platform, instance: dg.DagsterInstance) -> Opening:
    triggers, last = product.retraining.triggers, _trainings(product.name, instance)
    if not triggers or last is None:
        return Opening(())
    now = platform.clock.now()
    yesterday = (now - timedelta(days=1)).date().isoformat()
    past = tuple(
        trigger
        for trigger, key in _WATCHED.items()
        if trigger in triggers and _is_past(key(product.name), yesterday, instance)
    )
    rows = labelled_rows(product, platform) if "new_data" in triggers else 0
    return opens_training(product.retraining, Asked(now, rows, past), last)


def _trainings(product: str, instance: dg.DagsterInstance) -> Last | None:
    """What is recorded of the newest trainings, by the platform's clock; None before the first."""
    records = instance.fetch_materializations(training_set_key(product), limit=_MOST_TRAININGS).records
    found = [
        record.asset_materialization.metadata
        for record in reversed(records)
        if record.asset_materialization is not None and AS_OF in record.asset_materialization.metadata
    ]
    if not found:
        return None
    began = tuple(datetime.fromisoformat(str(each[AS_OF].value)).astimezone(UTC) for each in found)
    return Last(began, int(str(found[-1][LABELLED_ROWS].value)))


def _is_past(key: dg.AssetKey, day: str, instance: dg.DagsterInstance) -> bool:
    """Whether the newest monitoring of that day found it past the limits."""
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day])
    records = instance.fetch_materializations(wanted, limit=1).records
    if not records or records[0].asset_materialization is None:
        return False
    value = records[0].asset_materialization.metadata[DAYS_PAST].value
    return isinstance(value, list) and day in value
