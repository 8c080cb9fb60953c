"""The champion's scores for a day's rows, in the lake."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from configs.products import ModelProduct
from feature_repo.point_in_time import TIMESTAMP_SUFFIX
from feature_repo.services import service_name
from feature_repo.store import historical_features, open_store
from mlway_assets.compute.measurement import score_columns
from mlway_assets.compute.population import QUERY, rows_to_score
from mlway_assets.resources import Platform
from serving.scoring import load_model

LAYER = "predictions"


@dataclass(frozen=True)
class Scored:
    """The frame written, its version in the lake, and the model that scored it."""

    frame: pl.DataFrame
    version: int
    model_version: int


def score_days(product: ModelProduct, platform: Platform, days: Sequence[date]) -> Scored:
    """Score every row of these days and replace them in the product's predictions.

    Columns: `event_day`, the request's fields, `event_timestamp` (features are as of then), `score`, with an interval
    `lower` and `upper`, in a ranking `query_key` and the `rank` in it from 1, `model_version`, `model_digest`, and
    `VIEW__event_timestamp` for each feature view. Raises MissingChampionError.
    """
    champion = platform.registry.require_champion(product.name)
    features = features_of_days(product, platform, days)
    scores = score_columns(load_model(champion.folder, champion.digest).scores(features))
    frame = features.with_columns(scores).select(
        "event_day",
        *product.population.request,
        "event_timestamp",
        *(column.name for column in scores),
        *_rank_columns(product),
        pl.lit(champion.version, pl.Int64).alias("model_version"),
        pl.lit(champion.digest).alias("model_digest"),
        f"^.*{TIMESTAMP_SUFFIX}$",
    )
    return Scored(frame, platform.lake.replace_days(LAYER, product.name, frame, days), champion.version)


def features_of_days(product: ModelProduct, platform: Platform, days: Sequence[date]) -> pl.DataFrame:
    """Every row of these days as a request carries it, with the features and the times that they are of."""
    rows = platform.lake.scan_days("curated", product.population.table, days)
    requests = rows_to_score(product, rows, platform.clock.now()).collect()
    job = historical_features(open_store(platform.environment), requests, service_name(product))
    return job.to_polars(with_timestamps=True)


def _rank_columns(product: ModelProduct) -> list[pl.Expr]:
    """The query, and each row's place in it; rows with one score share the better place."""
    if product.ranking is None:
        return []
    place = pl.col("score").rank("min", descending=True).over(QUERY)
    return [pl.col(QUERY), place.cast(pl.Int64).alias("rank")]
