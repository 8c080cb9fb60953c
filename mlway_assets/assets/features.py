"""Feature views: the values of each declared group, their registration, and the online store."""

import dagster as dg
import polars as pl

from configs.features import LatestFeatures, RequestFeatures, StaticFeatures, TableFeatures, WindowedFeatures
from configs.load import Project
from feature_repo.aggregations import feature_values
from feature_repo.store import materialize_group, open_store, register_features
from mlway_assets.asset_keys import curated_key, feature_registry_key, features_key, online_store_key
from mlway_assets.assets.raw import LAKE_POOL
from mlway_assets.metadata import Lineage, column_metadata, table_metadata
from mlway_assets.resources import Platform

FEATURE_STORE_POOL = "feature_store"
PLATFORM_OWNER = "team:ml-platform"


def build_features(project: Project) -> dg.Definitions:
    """An asset for every feature group read from a table, the registry, and the online store."""
    groups = [group for group in project.features.values() if not isinstance(group, RequestFeatures)]
    keys = [features_key(group.name) for group in groups]
    return dg.Definitions(
        assets=[*(_feature_group(group) for group in groups), _registry(keys), _online_store(groups, keys)]
    )


def _feature_group(group: TableFeatures) -> dg.AssetsDefinition:
    types = group.join_keys | {"event_timestamp": "timestamp"} | group.types

    @dg.asset(
        key=features_key(group.name),
        deps=[curated_key(group.table)],
        group_name="features",
        owners=[group.owner],
        description=f"{group.description}\n\nEntity: {group.entity}. One row whenever a value changes.",
        kinds={"feast", "polars", "deltalake"},
        pool=LAKE_POOL,
        metadata=column_metadata(types, _lineage(group)),
    )
    def feature_group(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        values = feature_values(group, platform.lake.scan("curated", group.table)).collect()
        return dg.MaterializeResult(
            metadata=table_metadata(len(values), platform.lake.replace("features", group.name, values))
        )

    return feature_group


def _registry(groups: list[dg.AssetKey]) -> dg.AssetsDefinition:
    @dg.asset(
        key=feature_registry_key(),
        deps=groups,
        group_name="features",
        owners=[PLATFORM_OWNER],
        description="Feast's registry: entities, feature views and feature services as declared in configs/features/.",
        kinds={"feast"},
        pool=FEATURE_STORE_POOL,
    )
    def feature_registry(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        store = register_features(platform.environment, platform.project)
        services = {service.name: service.tags["definitions"] for service in store.list_feature_services()}
        return dg.MaterializeResult(metadata={"definition_hashes": dg.MetadataValue.json(services)})

    return feature_registry


def _online_store(groups: list[TableFeatures], keys: list[dg.AssetKey]) -> dg.AssetsDefinition:
    @dg.asset(
        key=online_store_key(),
        deps=[feature_registry_key(), *keys],
        group_name="features",
        owners=[PLATFORM_OWNER],
        description="The newest value of every feature as of now, where endpoints read it.",
        kinds={"feast"},
        pool=FEATURE_STORE_POOL,
    )
    def online_store(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        now, store = platform.clock.now(), open_store(platform.environment)
        done = {group.name: materialize_group(store, group, now) for group in groups}
        rows = {name: {"written": each.written, "deleted": each.deleted} for name, each in done.items()}
        return dg.MaterializeResult(metadata={"as_of": now.isoformat(), "rows": dg.MetadataValue.json(rows)})

    return online_store


def _lineage(group: TableFeatures) -> Lineage:
    source = curated_key(group.table)
    columns: dict[str, list[str]] = {key: [key] for key in group.join_keys}
    if isinstance(group, StaticFeatures | LatestFeatures):
        columns |= {name: _roots(feature.expression) for name, feature in group.features.items()}
    if isinstance(group, WindowedFeatures):
        for name in group.types:
            aggregation, _ = group.parts[name]
            columns[name] = [*(_roots(aggregation.of) if aggregation.of else []), group.known_at]
    if not isinstance(group, StaticFeatures):
        columns["event_timestamp"] = [group.known_at]
    return {column: [(source, name) for name in names] for column, names in columns.items()}


def _roots(expression: str) -> list[str]:
    return sorted(set(pl.sql_expr(expression).meta.root_names()))
