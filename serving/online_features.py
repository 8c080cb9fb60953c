"""Read features for request rows from the online store: values with their ages, ttl enforced, what is missing named.

The interface, and the way from it to a frame. How messages become values is in online_views.py; the stores' readers are
online_sqlite.py and online_redis.py. Neither Feast nor pandas is loaded; tests hold each reader against Feast's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from configs.environments import Environment, SqliteOnlineStore
from configs.features import TableFeatures
from feature_repo.column_types import POLARS_TYPES
from feature_repo.online_layout import OnlineStoreError, OnlineStoreUnavailableError

__all__ = [
    "FeatureColumns",
    "OnlineFeatures",
    "OnlineStoreError",
    "OnlineStoreUnavailableError",
    "build_online_features",
    "join_key_columns",
    "with_features",
]


@dataclass(frozen=True)
class FeatureColumns:
    """Features of some request rows, column by column."""

    values: dict[str, list[Any]]
    """Feature to its value in each row."""
    ages: dict[str, list[float | None]]
    """Feature view to the seconds since the moment that its values are of (1970 for static ones); None if missing."""
    missing: list[list[str]]
    """For each row the feature views that had nothing to say."""


class OnlineFeatures(Protocol):
    """Reads the features of the groups that it was built for. Threads may share it."""

    def read(self, entities: Mapping[str, Sequence[Any]], as_of: datetime) -> FeatureColumns:
        """The features of request rows, which are given as columns of join keys, as of a moment.

        A value from after `as_of`, or older than its ttl, is missing. Raises OnlineStoreError, of which
        OnlineStoreUnavailableError says that the store does not answer.
        """
        ...


def build_online_features(environment: Environment, groups: Sequence[TableFeatures]) -> OnlineFeatures:
    """The reader of the environment's online store. It connects at the first read."""
    online = environment.feature_store.online
    if isinstance(online, SqliteOnlineStore):
        from serving.online_sqlite import SqliteOnlineFeatures

        return SqliteOnlineFeatures(online.path, groups)
    from serving.online_redis import RedisOnlineFeatures

    return RedisOnlineFeatures(online, groups)


def join_key_columns(rows: pl.DataFrame, groups: Sequence[TableFeatures]) -> dict[str, list[Any]]:
    """The columns of `rows` by which the groups' features are looked up."""
    keys = dict.fromkeys(key for group in groups for key in group.join_keys)
    return {key: rows[key].to_list() for key in keys}


def with_features(rows: pl.DataFrame, groups: Sequence[TableFeatures], read: FeatureColumns) -> pl.DataFrame:
    """`rows` with a typed column for each feature of the groups, as the scoring core takes them."""
    return rows.hstack(
        [
            pl.Series(name, read.values[name], dtype=POLARS_TYPES[kind])
            for group in groups
            for name, kind in group.types.items()
        ]
    )
