"""Hold the champion's scores of all rows against labels that have become known since, and against what it promised.

What it promised is its quality on the days that it was judged by. The answers that endpoints gave: served_quality.py.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from configs.products import ModelProduct
from mlway_assets.batch_scoring import LAYER as PREDICTIONS
from mlway_assets.compute.drift_judgement import with_those_before
from mlway_assets.compute.population import known_labels
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.learned_rows import Learned, learned_by_champion
from mlway_assets.quality_reports import MeasuredDays, QualityReport, ScoredBy, promise_of_champion, slice_table
from mlway_assets.resources import Platform


def quality_table(product: str) -> str:
    """Name of the table of a product's quality."""
    return f"{product}_quality"


def slices_table(product: str) -> str:
    """Name of the table of a product's quality by slice."""
    return f"{product}_quality_by_slice"


def watch_quality(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[QualityReport]:
    """The quality on each of these days, judged over the days up to it.

    It replaces what was known of them, and of the days before them, whose labels have come since. Raises
    MissingTableError, RelevanceError, and what learned_by_champion does.
    """
    learned, limits = learned_by_champion(product, platform), product.monitoring.quality
    model = ScoredBy(learned.champion.version, learned.champion.digest)
    rows = _predicted(product, platform, with_those_before(days, limits.days_waited + limits.days_before), learned)
    seen = MeasuredDays(product, limits, model, rows, platform.clock.now(), limits.days_waited)
    promise = promise_of_champion(product, learned, platform)
    reports = [seen.report(day, promise) for day in days]
    # Days before them that a former champion scored stay as they are.
    renewed = sorted({*days, *(set(with_those_before(days, limits.days_waited)) & seen.days.keys())})
    platform.lake.replace_days(LAYER, quality_table(product.name), seen.table(renewed), renewed)
    platform.lake.replace_days(LAYER, slices_table(product.name), slice_table(reports, model), days)
    return reports


def _predicted(product: ModelProduct, platform: Platform, days: Sequence[date], learned: Learned) -> pl.DataFrame:
    """The champion's predictions of these days, with the labels that are known by now."""
    request = list(product.population.request)
    table = platform.lake.scan_days("curated", product.population.table, days)
    # As they were declared for the champion: by another label it cannot be judged.
    labels = known_labels(learned.product, table, platform.clock.now()).collect()
    scored = platform.lake.scan_days(PREDICTIONS, product.name, days)
    rows = scored.filter(pl.col("model_digest") == learned.champion.digest).collect()
    return rows.join(labels, on=request, how="left", nulls_equal=True, validate="m:1")
