"""Curated tables: the star schema, with its blocking checks."""

from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg

from mlway_assets.asset_keys import curated_key, raw_key
from mlway_assets.assets.raw import LAKE_POOL
from mlway_assets.checks import CONTRACT, QUARANTINED_SHARE, contract_check, quarantined_share_check
from mlway_assets.curation import CuratedTable, CuratedWrite, Table, curate
from mlway_assets.day_checks import USUAL_SCALE, usual_scale_check
from mlway_assets.metadata import Lineage, column_metadata, table_metadata
from mlway_assets.partitions import selected_days
from mlway_assets.resources import Platform

Results = Iterator[Any]
"""Check results, then the materialization; Dagster tells them apart."""


def build_curated(tables: Iterable[CuratedTable], days: dg.PartitionsDefinition[str]) -> dg.Definitions:
    """An asset for every curated table."""
    return dg.Definitions(assets=[_curated_table(table, days) for table in tables])


def table_key(table: Table) -> dg.AssetKey:
    """The asset that writes a table of the lake."""
    layer, name = table
    return raw_key(name) if layer == "raw" else curated_key(name)


def _curated_table(table: CuratedTable, days: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    key = curated_key(table.name)

    @dg.asset(
        key=key,
        deps=[table_key(name) for name in table.inputs],
        partitions_def=days if table.is_partitioned else None,
        backfill_policy=dg.BackfillPolicy.single_run() if table.is_partitioned else None,
        group_name="curated",
        owners=[table.owner],
        description=table.description,
        kinds={"polars", "deltalake", "pandera"},
        pool=LAKE_POOL,
        metadata=column_metadata(table.columns, _lineage(table)),
        check_specs=[
            dg.AssetCheckSpec(CONTRACT, asset=key, blocking=True, description="The table's pandera contract."),
            dg.AssetCheckSpec(
                QUARANTINED_SHARE,
                asset=key,
                blocking=True,
                description=f"At most {table.maximum_quarantined_share:.2%} of the rows may be quarantined.",
            ),
            *_scale_checks(table, key),
        ],
    )
    def curated_table(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Results:
        written = curate(table, platform.lake, selected_days(context) if table.is_partitioned else [])
        yield from _results(table, written)

    return curated_table


def _scale_checks(table: CuratedTable, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    if not table.is_partitioned or table.maximum_scale_change is None:
        return []
    description = "The values of each column are of the size that they had on the days before."
    return [dg.AssetCheckSpec(USUAL_SCALE, asset=key, blocking=True, description=description)]


def _results(table: CuratedTable, written: CuratedWrite) -> Results:
    yield contract_check(written.broken)
    yield quarantined_share_check(written.curated, table.maximum_quarantined_share)
    if table.is_partitioned and table.maximum_scale_change is not None:
        yield usual_scale_check(written.changed_scales, table.maximum_scale_change)
    if written.version is None:
        raise dg.Failure(
            "A blocking check failed: the table keeps what it had. The quarantine says which rows and why."
        )
    quarantined, copies = len(written.curated.quarantined), written.curated.copies
    yield dg.MaterializeResult(
        metadata=table_metadata(len(written.curated.rows), written.version)
        | {"quarantined_rows": dg.MetadataValue.int(quarantined), "copied_rows": dg.MetadataValue.int(copies)}
    )


def _lineage(table: CuratedTable) -> Lineage:
    return {
        column: [(table_key(name), original) for name, original in table.column_inputs(column)]
        for column in table.columns
    }
