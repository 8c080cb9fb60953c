"""Open a product's training, whoever asks: the product's triggers, or a person. One decision, for sensors and replay.

What is known of trainings is in Dagster's own event log: what a former training was made from, and which runs are on
their way. So nothing is lost with a restart, and nothing is counted twice.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl

from configs.products import ModelProduct
from configs.retraining import Trigger
from feature_repo.expressions import parse
from mlway_assets.asset_keys import (
    candidate_key,
    curated_key,
    input_drift_key,
    online_store_key,
    prediction_drift_key,
    quality_key,
    registered_version_key,
    training_set_key,
)
from mlway_assets.compute.triggers import Asked, Last, Opening, opens_training
from mlway_assets.declared_tables import curated_tables
from mlway_assets.jobs import TRAIN
from mlway_assets.partitions import build_days
from mlway_assets.resources import Platform
from serving.training_requests import TrainingRequest, TrainingRequests

AS_OF, LABELLED_ROWS, DAYS_PAST = "as_of", "labelled_rows", "days_past_their_limits"
"""Metadata of a training set and, last, of what is monitored."""
PRODUCT_TAG, REASON_TAG, REQUESTS_TAG = "mlway/product", "mlway/reason", "mlway/requests"
OPENED_TAG = "mlway/opened"
"""When a training was opened, by the platform's clock."""
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
_FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_MOST_TRAININGS = 50


@dataclass(frozen=True)
class Decision:
    """Whether a training is to begin: its reasons, the requests that it answers; or why it is not, where any asked."""

    product: str
    opened: datetime
    reasons: tuple[str, ...] = ()
    requests: tuple[TrainingRequest, ...] = ()
    held_back: str | None = None

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the run."""
        asked = {REQUESTS_TAG: ",".join(request.id for request in self.requests)} if self.requests else {}
        why = {REASON_TAG: "; ".join(self.reasons)[:1000], OPENED_TAG: self.opened.isoformat()}
        return {PRODUCT_TAG: self.product} | why | asked


def training_assets(product: str) -> list[dg.AssetKey]:
    """What a training of one product makes."""
    return [training_set_key(product), candidate_key(product), registered_version_key(product)]


def decide(
    product: ModelProduct, platform: Platform, instance: dg.DagsterInstance, requests: Sequence[TrainingRequest] = ()
) -> Decision:
    """Whether a training of the product begins now: by its triggers, or for `requests` that nobody has answered yet."""
    running, now = runs_on_their_way(product.name, instance), platform.clock.now()
    if running:
        why = f"training {running[0][:8]} is on its way"
        return Decision(product.name, now, requests=tuple(requests), held_back=why if requests else None)
    opening = _by_triggers(product, platform, instance)
    asked = tuple(f"{request.caller}: {request.reason}" for request in requests)
    reasons = tuple(dict.fromkeys((*asked, *opening.reasons)))
    return Decision(product.name, now, reasons, tuple(requests), None if reasons else opening.held_back)


def join_training(decision: Decision, instance: dg.DagsterInstance) -> bool:
    """Record those who asked while a training was on its way with that training, which is theirs too.

    False where it has just ended: they wait for the next.
    """
    running = runs_on_their_way(decision.product, instance)
    run = instance.get_run_by_id(running[0]) if running else None
    if run is None:
        return False
    asked = decision.requests
    reasons = [run.tags.get(REASON_TAG, ""), *(f"{each.caller}: {each.reason}" for each in asked)]
    ids = [run.tags.get(REQUESTS_TAG, ""), *(each.id for each in asked)]
    tags = {REASON_TAG: "; ".join(filter(None, reasons))[:1000], REQUESTS_TAG: ",".join(filter(None, ids))}
    instance.add_run_tags(run.run_id, tags)
    return True


def runs_on_their_way(product: str, instance: dg.DagsterInstance) -> list[str]:
    """The runs that train the product, or will."""
    key = candidate_key(product)
    return [
        run.run_id
        for run in instance.get_runs(dg.RunsFilter(statuses=_ON_THEIR_WAY))
        # A run of the command line that selects nothing has an empty selection, not None.
        if (run.job_name == TRAIN and not run.asset_selection) or key in (run.asset_selection or ())
    ]


def waiting(product: str, inbox: TrainingRequests, instance: dg.DagsterInstance) -> list[TrainingRequest]:
    """The requests that no run, whatever became of it, was started for; the others are removed."""
    requests = inbox.pending(product)
    if not requests:
        return []
    runs = instance.get_runs(dg.RunsFilter(tags={PRODUCT_TAG: product}), limit=_MOST_TRAININGS)
    ids = {name for run in runs for name in run.tags.get(REQUESTS_TAG, "").split(",")}
    inbox.remove([request for request in requests if request.id in ids])
    return [request for request in requests if request.id not in ids]


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
    yesterday = (now - timedelta(days=1)).date()
    past = tuple(
        trigger
        for trigger, key in _WATCHED.items()
        if trigger in triggers and _is_past(key(product.name), yesterday.isoformat(), instance)
    )
    rows = labelled_rows(product, platform) if "new_data" in triggers else 0
    opening = opens_training(product.retraining, Asked(now, rows, past), last)
    missing = None
    if opening.reasons:
        missing = missing_day(product, platform, instance, yesterday) or _days_to_come(instance, now)
    return Opening((), f"{', '.join(opening.reasons)}; {missing}") if missing else opening


def missing_day(product: ModelProduct, platform: Platform, instance: dg.DagsterInstance, day: date) -> str | None:
    """Why the population's table lacks the day, though it was looked for; a day that nobody has tried may yet come."""
    table, days = product.population.table, build_days(platform.environment.days)
    key = day.isoformat()
    if not curated_tables(platform.project)[table].is_partitioned or not days.has_partition_key(key):
        return None
    status = (instance.get_status_by_partition(curated_key(table), [key], days) or {}).get(key)
    if status == dg.AssetPartitionStatus.FAILED:
        return f"{day} of {table} was refused, or could not be read"
    rows = platform.lake.scan_days("curated", table, [day]).select(pl.len())
    if status == dg.AssetPartitionStatus.MATERIALIZED and not rows.collect().item():
        return f"{day} of {table} came without a row"
    return None


def _days_to_come(instance: dg.DagsterInstance, now: datetime) -> str | None:
    """Why the day before may not have come yet: endpoints still read what was known before it was over."""
    newest = instance.get_latest_materialization_event(online_store_key())
    if newest is None or newest.asset_materialization is None:
        return "the online store was never filled"
    as_of = datetime.fromisoformat(str(newest.asset_materialization.metadata[AS_OF].value)).astimezone(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return None if as_of >= midnight else f"the online store is as of {as_of:%Y-%m-%d %H:%M}, before the day began"


def _trainings(product: str, instance: dg.DagsterInstance) -> Last | None:
    """What is recorded of the newest trainings, by the platform's clock; None before the first.

    One that failed before it had a training set counts too: else it would be tried again at every tick.
    """
    records = instance.fetch_materializations(training_set_key(product), limit=_MOST_TRAININGS).records
    found = [
        record.asset_materialization.metadata
        for record in reversed(records)
        if record.asset_materialization is not None and AS_OF in record.asset_materialization.metadata
    ]
    if not found:
        return None
    began = [str(each[AS_OF].value) for each in found]
    began += _failed_early(product, {record.run_id for record in records}, instance)
    moments = sorted(datetime.fromisoformat(moment).astimezone(UTC) for moment in began)
    return Last(tuple(moments), int(str(found[-1][LABELLED_ROWS].value)))


def _failed_early(product: str, with_training_set: Collection[str], instance: dg.DagsterInstance) -> list[str]:
    """When those runs were opened that failed without a training set."""
    failed = dg.RunsFilter(tags={PRODUCT_TAG: product}, statuses=_FAILED)
    return [
        run.tags[OPENED_TAG]
        for run in instance.get_runs(failed, limit=_MOST_TRAININGS)
        if OPENED_TAG in run.tags and run.run_id not in with_training_set
    ]


def _is_past(key: dg.AssetKey, day: str, instance: dg.DagsterInstance) -> bool:
    """Whether the newest monitoring of that day found it past the limits."""
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day])
    records = instance.fetch_materializations(wanted, limit=1).records
    if not records or records[0].asset_materialization is None:
        return False
    value = records[0].asset_materialization.metadata[DAYS_PAST].value
    return isinstance(value, list) and day in value
