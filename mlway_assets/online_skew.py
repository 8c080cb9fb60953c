"""Hold the online store's current values against a product's training set."""

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from configs.products import ModelProduct, OnlineSkew
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.compute.skew import FeatureSkew, feature_skew
from mlway_assets.resources import Platform
from mlway_assets.training_sets import LAYER, newest_training_set
from serving.online_features import build_online_features, join_key_columns, with_features

ASKED_WITHIN = timedelta(hours=3)
MOST_ROWS = 2_000


@dataclass(frozen=True)
class SkewReport:
    """The skew of each feature over some request rows, and the limits that the product states."""

    rows: int
    features: tuple[FeatureSkew, ...]
    limits: OnlineSkew

    @property
    def broken(self) -> list[FeatureSkew]:
        """Features past a limit."""
        return [
            found
            for found in self.features
            if found.outside_share > self.limits.maximum_outside_share
            or found.missing_difference > self.limits.maximum_missing_share_difference
        ]

    @property
    def is_within_limits(self) -> bool:
        """Whether no more than the stated share of the features is past a limit."""
        return len(self.broken) <= self.limits.maximum_skewed_share * len(self.features)


def find_online_skew(product: ModelProduct, platform: Platform) -> SkewReport:
    """Read the features of the rows about which requests come now, and compare them with the training set.

    Those are the rows whose horizon lies within three hours of now, before or after; where there are none, such as
    before the first day is known, the newest rows of the population.
    """
    groups = platform.project.table_groups(product)
    newest = newest_training_set(product.name, platform)
    seen_by_model = platform.project.model_features(product)
    features = [name for group in groups for name in group.types if name in seen_by_model]
    training = platform.lake.scan(LAYER, product.name, newest.version).select(features).collect()
    rows = _request_rows(product, platform)
    read = build_online_features(platform.environment, groups).read(
        join_key_columns(rows, groups), platform.clock.now()
    )
    online = with_features(rows, groups, read)
    return SkewReport(len(rows), tuple(feature_skew(training, online, features)), product.online_skew)


def _request_rows(product: ModelProduct, platform: Platform) -> pl.DataFrame:
    population, now = product.population, platform.clock.now()
    asked_at = pl.col(population.event_time) - population.horizon
    rows = platform.lake.scan("curated", population.table).select(*population.request, asked_at.alias(EVENT_TIMESTAMP))
    current = rows.filter(pl.col(EVENT_TIMESTAMP).is_between(now - ASKED_WITHIN, now + ASKED_WITHIN)).collect()
    if len(current):
        return current.head(MOST_ROWS)
    return rows.filter(pl.col(EVENT_TIMESTAMP) <= now).sort(EVENT_TIMESTAMP).tail(MOST_ROWS).collect()
