"""Decisions: every answer of the endpoints, from the decision log."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from configs.clock import build_clock
from configs.environments import SystemClock
from configs.load import Project
from configs.products import ModelProduct
from mlway_assets.asset_keys import decisions_key
from mlway_assets.assets.raw import LAKE_POOL
from mlway_assets.checks import CHAIN, chain_check
from mlway_assets.decision_compaction import compact_decisions
from mlway_assets.decision_table import table_columns
from mlway_assets.metadata import column_metadata, table_metadata
from mlway_assets.resources import Platform


def build_decisions(project: Project) -> dg.Definitions:
    """An asset for every product."""
    return dg.Definitions(assets=[_decisions(product, project) for product in project.products.values()])


def _decisions(product: ModelProduct, project: Project) -> dg.AssetsDefinition:
    key = decisions_key(product.name)

    @dg.asset(
        key=key,
        group_name="raw",
        owners=[product.owner],
        description=f"Every answer of {product.name}'s endpoint: a row for each row that was scored, with the features "
        "that the model saw, their ages, the model and the caller.\n\nSource: the decision log.",
        kinds={"deltalake"},
        pool=LAKE_POOL,
        metadata=column_metadata(table_columns(project, product), {}),
        check_specs=[
            dg.AssetCheckSpec(
                CHAIN,
                asset=key,
                blocking=True,
                description="No record of the log that is not in the lake yet was altered, removed or moved.",
            )
        ],
    )
    def decisions(platform: dg.ResourceParam[Platform]) -> Iterator[Any]:
        # Answers carry the machine's time, and so does their age; the environment's clock may stand still.
        done = compact_decisions(product, platform, build_clock(SystemClock(kind="system")).now())
        yield chain_check(done.broken)
        yield dg.MaterializeResult(
            metadata=table_metadata(done.rows, done.version)
            | {
                "decisions": dg.MetadataValue.int(done.decisions),
                "deleted_segments": dg.MetadataValue.json(done.deleted),
            }
        )

    return decisions
