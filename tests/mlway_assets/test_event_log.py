"""The batched event log: the same rows as Dagster's own, in far fewer transactions."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlway_assets.event_log import BatchedSqliteEventLogStorage
from mlway_assets.local.instance import open_instance
from mlway_assets.local.paths import LocalPaths
from mlway_assets.partitions import range_tags

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-02-01")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def month() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": 3})


@pytest.fixture
def instance(tmp_path: Path) -> dg.DagsterInstance:
    return open_instance(LocalPaths(tmp_path / "state"))


def run_month(instance: dg.DagsterInstance) -> Any:
    from datetime import date

    job = dg.Definitions(assets=[month], jobs=[dg.define_asset_job("all", "*")]).resolve_job_def("all")
    return job.execute_in_process(instance=instance, tags=range_tags([date(2013, 1, 1), date(2013, 1, 31)]))


def test_every_partition_of_a_range_is_recorded(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)
    assert run_month(instance).success
    assert instance.get_materialized_partitions(dg.AssetKey("month")) == set(DAYS.get_partition_keys())
    event = instance.get_latest_materialization_event(dg.AssetKey("month"))
    assert event is not None
    assert event.asset_materialization.metadata["rows"].value == 3


def test_a_range_takes_few_transactions(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    base = BatchedSqliteEventLogStorage.__mro__[1]
    connect = base._connect
    monkeypatch.setattr(base, "_connect", lambda self, shard: opened.append(shard) or connect(self, shard))
    assert run_month(instance).success
    assert len(opened) < len(DAYS.get_partition_keys())
