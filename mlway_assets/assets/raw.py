"""Raw tables: one asset for each declared source table, as received."""

from collections.abc import Mapping
from datetime import date

import dagster as dg

from configs.sources import Source
from mlway_assets.asset_keys import raw_key
from mlway_assets.day_checks import ROWS, rows_check
from mlway_assets.ingest import Ingested, ingest_days, ingest_snapshot
from mlway_assets.metadata import column_metadata, table_metadata
from mlway_assets.partitions import selected_days
from mlway_assets.resources import Platform
from mlway_assets.sources.build import build_reader
from mlway_assets.sources.reading import SourceError

LAKE_POOL = "lake"
SOURCE_CURSOR = "source_cursor"
UNREAD_DAYS = "unread_days"
STAMPS = {"ingested_at": "timestamp", "ingested_from": "string"}


def build_raw(sources: Mapping[str, Source], days: dg.PartitionsDefinition[str]) -> dg.Definitions:
    """An asset for every table of every source."""
    return dg.Definitions(
        assets=[_raw_table(source, table, days) for source in sources.values() for table in source.tables]
    )


def _raw_table(source: Source, name: str, days: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    table = source.tables[name]

    @dg.asset(
        key=raw_key(name),
        partitions_def=days if table.is_partitioned else None,
        backfill_policy=dg.BackfillPolicy.single_run() if table.is_partitioned else None,
        group_name="raw",
        owners=[source.owner],
        description=f"{table.description}\n\nSource: {source.description}",
        kinds={source.kind, "deltalake"},
        pool=LAKE_POOL,
        metadata=column_metadata({**table.columns, **STAMPS}, {}),
        check_specs=[dg.AssetCheckSpec(ROWS, asset=raw_key(name), description="No day came without a row. It warns.")]
        if table.is_partitioned
        else None,
    )
    def raw_table(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        reader, now = build_reader(source, name), platform.clock.now()
        if not table.is_partitioned:
            # What the source held before it was read: a change in between is then found by the sensor.
            seen = reader.changes(None).cursor
            return _snapshot(ingest_snapshot(reader, platform.lake, name, now), seen)
        ingested = ingest_days(reader, platform.lake, name, selected_days(context), now)
        if ingested.failures:
            _report_good_days(context, ingested)
            raise _failure(ingested.failures)
        return dg.MaterializeResult(
            metadata=table_metadata(len(ingested.frame), ingested.version), check_results=[rows_check(ingested.empty)]
        )

    return raw_table


def _snapshot(ingested: Ingested, seen: str) -> dg.MaterializeResult:
    written = table_metadata(len(ingested.frame), ingested.version)
    return dg.MaterializeResult(metadata=written | {SOURCE_CURSOR: dg.MetadataValue.text(seen)})


def _report_good_days(context: dg.AssetExecutionContext, ingested: Ingested) -> None:
    # A step that fails reports none of its partitions, and these were written.
    for day in ingested.days:
        context.instance.report_runless_asset_event(
            dg.AssetMaterialization(context.asset_key, partition=day.isoformat())
        )


def _failure(failures: Mapping[date, SourceError]) -> dg.Failure:
    lines = [f"{day}: {error}" for day, error in sorted(failures.items())[:20]]
    return dg.Failure(
        description=f"{len(failures)} days could not be read; the others were written.\n" + "\n".join(lines),
        metadata={UNREAD_DAYS: dg.MetadataValue.json([day.isoformat() for day in sorted(failures)])},
        allow_retries=False,
    )
