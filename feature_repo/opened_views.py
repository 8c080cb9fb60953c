"""Feast's feature views as the join takes them: keys and features under their final names, moments in UTC.

How tables are read: table_sources.py; how they are joined: point_in_time.py.
"""

from typing import Any

import polars as pl
from feast.feature_view import DUMMY_ENTITY_ID
from feast.repo_config import RepoConfig

from feature_repo.entity_frames import check_keys
from feature_repo.point_in_time import TIMESTAMP_SUFFIX, View
from feature_repo.table_sources import SourceError, scan
from feature_repo.timestamps import as_utc


def open_view(config: RepoConfig, view: Any, features: list[str], *, full_names: bool) -> tuple[View, dict[str, int]]:
    """The values of a feature view as the join takes them, and the version of its Delta table by path.

    Features are named `view__feature` with `full_names`. Raises SourceError where a column is not there.
    """
    source = view.batch_source
    rows, versions = scan(config, source)
    schema = rows.collect_schema()
    columns = {mapped: original for original, mapped in (source.field_mapping or {}).items()}
    name = view.projection.name_to_use()
    own_keys = [column.name for column in view.entity_columns if column.name != DUMMY_ENTITY_ID]
    keys = {key: view.projection.join_key_map.get(key, key) for key in own_keys}
    finals = {feature: f"{name}__{feature}" if full_names else feature for feature in dict.fromkeys(features)}
    read = {columns.get(column, column): final for column, final in {**keys, **finals}.items()}
    moment_column = columns.get(source.timestamp_field, source.timestamp_field)
    _check_columns(view.name, [*read, moment_column], schema)
    moment = as_utc(moment_column, schema[moment_column])
    moments = {name + TIMESTAMP_SUFFIX: moment}
    created = f"__created_{name}" if source.created_timestamp_column else None
    if created:
        created_column = columns.get(source.created_timestamp_column, source.created_timestamp_column)
        _check_columns(view.name, [created_column], schema)
        written = as_utc(created_column, schema[created_column])
        moments[created] = written.fill_null(moment)
    values = rows.select(*(pl.col(column).alias(final) for column, final in read.items()), **moments)
    joined = View(values, list(keys.values()), list(finals.values()), name + TIMESTAMP_SUFFIX, created, view.ttl)
    return joined, versions


def _check_columns(view: str, columns: list[str], schema: pl.Schema) -> None:
    missing = [column for column in columns if column not in schema]
    if missing:
        raise SourceError(
            f"The source of {view!r} has no column {missing[0]!r}; it has {', '.join(schema)}.\n"
            "Hint: mend the view's schema, or its source's field_mapping."
        )


def check_view_keys(entities: pl.DataFrame, view: View) -> None:
    """Raises EntityFrameError unless the entity frame holds the view's keys, with their types."""
    schema = view.values.collect_schema()
    check_keys(entities, view.timestamp_column.removesuffix(TIMESTAMP_SUFFIX), {key: schema[key] for key in view.keys})
