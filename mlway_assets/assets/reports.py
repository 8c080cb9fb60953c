"""Reports: pages for people, beside what monitoring has found.

A group of their own, out of the jobs `monitor` and `daily`: loading Evidently and drawing a page take longer than all
the monitoring of a day, and nothing waits for pages. The schedule makes one a week, `mlway materialize report` any.
"""

import dagster as dg

from configs.load import Project
from configs.products import ModelProduct
from mlway_assets.asset_keys import input_drift_key, input_drift_report_key
from mlway_assets.drift_reports import write_input_drift_pages
from mlway_assets.partitions import selected_days
from mlway_assets.resources import Platform

PAGE = "page"


def build_reports(project: Project, days: dg.PartitionsDefinition[str]) -> dg.Definitions:
    """The assets of every product."""
    return dg.Definitions(assets=[_input_drift(product, days) for product in project.products.values()])


def _input_drift(product: ModelProduct, days: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    watched = input_drift_key(product.name)

    @dg.asset(
        key=input_drift_report_key(product.name),
        deps=[watched],
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="reports",
        owners=[product.owner],
        description=f"A page of pictures of each feature of {product.name} beside what the champion was trained on.",
        kinds={"evidently", "html"},
    )
    def report(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        pages = list(write_input_drift_pages(product, platform, selected_days(context)))
        for page in pages:
            # Whoever looks at the day's input drift finds the page there too.
            link = {PAGE: dg.MetadataValue.path(page.path.resolve())}
            context.log_event(dg.AssetObservation(watched, partition=page.day.isoformat(), metadata=link))
        newest = max(pages, key=lambda page: page.day)
        return dg.MaterializeResult(
            metadata={
                PAGE: dg.MetadataValue.path(newest.path.resolve()),
                "without_pictures": dg.MetadataValue.json(list(newest.not_drawn)),
            }
        )

    return report
