"""Feature views: the values of each declared group, their registration, and the online store."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from configs.catalogue import catalogue_warnings, declared_features, using_products
from configs.features import RequestFeatures, TableFeatures
from configs.load import Project
from feature_repo.store import materialize_group, open_store, register_features
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.asset_keys import curated_key, feature_registry_key, features_key, online_store_key
from mlway_assets.assets.raw import LAKE_POOL
from mlway_assets.checks import CATALOGUE, PARITY, catalogue_check, parity_check
from mlway_assets.column_lineage import group_origins
from mlway_assets.feature_tables import write_group
from mlway_assets.metadata import column_metadata, key_lineage, statistics_table, table_metadata
from mlway_assets.parity import compare_paths
from mlway_assets.resources import Platform

FEATURE_STORE_POOL = "feature_store"
PLATFORM_OWNER = "team:ml-platform"


def build_features(project: Project) -> dg.Definitions:
    """An asset for every feature group read from a table, the registry, and the online store."""
    groups = [group for group in project.features.values() if not isinstance(group, RequestFeatures)]
    keys = [features_key(group.name) for group in groups]
    return dg.Definitions(
        assets=[
            *(_feature_group(group, project) for group in groups),
            _registry(keys, project),
            _online_store(groups, keys),
        ],
        asset_checks=[_parity(project)],
    )


def _feature_group(group: TableFeatures, project: Project) -> dg.AssetsDefinition:
    types = group.join_keys | {EVENT_TIMESTAMP: "timestamp"} | group.types

    @dg.asset(
        key=features_key(group.name),
        deps=[curated_key(group.table)],
        group_name="features",
        owners=[group.owner] if group.owner else [],
        description=f"{group.description}\n\nEntity: {group.entity}. One row whenever a value changes.",
        kinds={"feast", "polars", "deltalake"},
        pool=LAKE_POOL,
        tags=_tags(project, group),
        metadata={
            **column_metadata(types, key_lineage(group_origins(group)), declared_features(project, group)),
            "products": dg.MetadataValue.json(using_products(project, group)),
        },
    )
    def feature_group(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        written = write_group(group, platform.lake, platform.clock.now())
        return dg.MaterializeResult(
            metadata=table_metadata(written.rows, written.version)
            | {"statistics": dg.MetadataValue.md(statistics_table(written.statistics))}
        )

    return feature_group


def _registry(groups: list[dg.AssetKey], project: Project) -> dg.AssetsDefinition:
    @dg.asset(
        key=feature_registry_key(),
        deps=groups,
        group_name="features",
        owners=[PLATFORM_OWNER],
        description="Feast's registry: entities, feature views and feature services as declared in configs/features/.",
        kinds={"feast"},
        pool=FEATURE_STORE_POOL,
        check_specs=[
            dg.AssetCheckSpec(
                CATALOGUE,
                asset=feature_registry_key(),
                description="Every group has an owner, every feature a product that uses it. Warns; stops nothing.",
            )
        ],
    )
    def feature_registry(platform: dg.ResourceParam[Platform]) -> Iterator[Any]:
        yield catalogue_check(catalogue_warnings(project))
        store = register_features(platform.environment, platform.project)
        services = {service.name: service.tags["definitions"] for service in store.list_feature_services()}
        yield dg.MaterializeResult(metadata={"definition_hashes": dg.MetadataValue.json(services)})

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


def _parity(project: Project) -> dg.AssetChecksDefinition:
    groups = list(project.features.values())
    populations = {product.population.table for product in project.products.values()}

    @dg.asset_check(
        asset=online_store_key(),
        name=PARITY,
        additional_deps=[curated_key(table) for table in sorted(populations)],
        blocking=True,
        description="Values are the same, to the last bit, in history, online and by micro-batches for some entities, "
        "and request features row by row and for a whole frame of rows.",
    )
    def parity(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        return parity_check(compare_paths(groups, platform))

    return parity


def _tags(project: Project, group: TableFeatures) -> dict[str, str]:
    """The group's tags and those of its features, so that a search for `pii` finds the table."""
    features = declared_features(project, group).values()
    return {tag: "" for feature in features for tag in feature.tags}
