"""Compare the values that endpoints read now with those that a model is trained on, feature by feature."""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class FeatureSkew:
    """One feature: shares of online values outside the training set's range, and of nulls here and there."""

    feature: str
    outside_share: float
    missing_online: float
    missing_in_training: float

    @property
    def missing_difference(self) -> float:
        """By how much the share of nulls online exceeds the training set's; below zero, online has fewer."""
        return self.missing_online - self.missing_in_training


def feature_skew(training: pl.DataFrame, online: pl.DataFrame, features: Iterable[str]) -> list[FeatureSkew]:
    """The skew of each feature. Of numbers the range counts, of texts and conditions the set of values."""
    return [
        FeatureSkew(
            name,
            _outside_share(training[name], online[name]),
            _missing_share(online[name]),
            _missing_share(training[name]),
        )
        for name in features
    ]


def _outside_share(training: pl.Series, online: pl.Series) -> float:
    seen = online.drop_nulls()
    if not len(seen):
        return 0.0
    if training.dtype.is_numeric():
        inside = seen.is_between(training.min(), training.max()) if training.count() else pl.Series([False] * len(seen))
    else:
        inside = seen.is_in(training.drop_nulls().unique().implode())
    return (len(seen) - int(inside.sum())) / len(seen)


def _missing_share(column: pl.Series) -> float:
    return column.null_count() / len(column) if len(column) else 0.0
