"""The code location: a table of contents."""

import warnings

import dagster as dg

from mlway_assets.assets.curated import build_curated
from mlway_assets.assets.decisions import build_decisions
from mlway_assets.assets.features import build_features
from mlway_assets.assets.models import build_models
from mlway_assets.assets.monitoring import build_monitoring
from mlway_assets.assets.predictions import build_predictions
from mlway_assets.assets.raw import build_raw
from mlway_assets.assets.reports import build_reports
from mlway_assets.declarations import check_declarations
from mlway_assets.declared_tables import curated_tables
from mlway_assets.jobs import build_jobs
from mlway_assets.partitions import build_days
from mlway_assets.resources import Platform, open_platform
from mlway_assets.sensors import build_sensors


def build_definitions(platform: Platform) -> dg.Definitions:
    """Everything, for one environment."""
    # Backfill policies, pools and asset owners are in beta; they are pinned, and tested here.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    project, days = platform.project, build_days(platform.environment.days)
    tables = curated_tables(project)
    check_declarations(project, tables)
    return dg.Definitions.merge(
        build_raw(project.sources, days),
        build_decisions(project),
        build_curated(tables.values(), days),
        build_features(project),
        build_models(project),
        build_predictions(project, days),
        build_monitoring(project, days),
        build_reports(project, days),
        build_jobs(platform, days),
        build_sensors(platform, days),
        dg.Definitions(resources={"platform": platform}, executor=dg.in_process_executor),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads, in the environment of MLWAY_ENVIRONMENT."""
    return build_definitions(open_platform())
