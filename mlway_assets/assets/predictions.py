"""Predictions: the champion's scores for each day's rows."""

import dagster as dg

from configs.load import Project
from configs.products import ModelProduct
from mlway_assets.asset_keys import curated_key, features_key, predictions_key, registered_version_key
from mlway_assets.assets.raw import LAKE_POOL
from mlway_assets.batch_scoring import score_days
from mlway_assets.metadata import table_metadata
from mlway_assets.partitions import selected_days
from mlway_assets.resources import Platform


def build_predictions(project: Project, days: dg.PartitionsDefinition[str]) -> dg.Definitions:
    """An asset for every product."""
    return dg.Definitions(assets=[_predictions(product, project, days) for product in project.products.values()])


def _predictions(product: ModelProduct, project: Project, days: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    @dg.asset(
        key=predictions_key(product.name),
        deps=[
            registered_version_key(product.name),
            curated_key(product.population.table),
            *(features_key(group.name) for group in project.table_groups(product)),
        ],
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="predictions",
        owners=[product.owner],
        description=f"{product.description} Scores of each day's rows, with the model and the times of their features.",
        kinds={"lightgbm", "deltalake"},
        pool=LAKE_POOL,
    )
    def predictions(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        scored = score_days(product, platform, selected_days(context))
        mean = scored.frame["score"].mean()
        return dg.MaterializeResult(
            metadata=table_metadata(len(scored.frame), scored.version)
            | {
                "model_version": dg.MetadataValue.int(scored.model_version),
                "mean_score": dg.MetadataValue.float(float(mean) if isinstance(mean, float) else float("nan")),
            }
        )

    return predictions
