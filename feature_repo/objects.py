"""Feast objects, built from the declared feature groups and products."""

from collections.abc import Mapping
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, OnDemandFeatureView, RequestSource
from feast.types import Bool, Float64, Int64, String, UnixTimestamp
from feast.value_type import ValueType

from configs.environments import Environment
from configs.features import RequestFeatures, TableFeatures
from configs.load import Project
from configs.products import ModelProduct
from feature_repo.aggregations import EVENT_TIMESTAMP
from feature_repo.delta_source import DeltaSource
from feature_repo.feast_online_stores import DEFINITION_TAG
from feature_repo.offline_store import DECLARATION_TAG
from feature_repo.online_layout import definition_of
from feature_repo.services import definitions_hash, service_name

FEATURES_LAYER = "features"
_TYPES: dict[str, Any] = {
    "int64": Int64,
    "float64": Float64,
    "string": String,
    "boolean": Bool,
    "timestamp": UnixTimestamp,
}
_KEY_TYPES = {"string": ValueType.STRING, "int64": ValueType.INT64}


def build_objects(project: Project, environment: Environment) -> list[Any]:
    """Every entity, feature view, on-demand view and feature service."""
    tables = [group for group in project.features.values() if not isinstance(group, RequestFeatures)]
    keys = {name: kind for group in tables for name, kind in group.join_keys.items()}
    entities = {name: Entity(name=name, join_keys=[name], value_type=_KEY_TYPES[kind]) for name, kind in keys.items()}
    views: dict[str, Any] = {group.name: _feature_view(group, entities, environment) for group in tables}
    for group in project.features.values():
        if isinstance(group, RequestFeatures):
            views[group.name] = _on_demand_view(group, views)
    services = [_feature_service(project, product, views) for product in project.products.values()]
    return [*entities.values(), *views.values(), *services]


def _feature_view(group: TableFeatures, entities: Mapping[str, Entity], environment: Environment) -> FeatureView:
    fields = [Field(name=name, dtype=_TYPES[kind]) for name, kind in (*group.join_keys.items(), *group.types.items())]
    return FeatureView(
        name=group.name,
        entities=[entities[key] for key in group.join_keys],
        ttl=group.time_to_live,
        schema=fields,
        source=DeltaSource(
            name=f"{group.name}_values",
            path=environment.lake.table_uri(FEATURES_LAYER, group.name),
            timestamp_field=EVENT_TIMESTAMP,
            description=f"Values of {group.name} over all history.",
            owner=group.owner,
        ),
        description=group.description,
        owner=group.owner,
        tags={"entity": group.entity, "kind": group.kind, DEFINITION_TAG: definition_of(group)},
    )


def _on_demand_view(group: RequestFeatures, views: Mapping[str, FeatureView]) -> OnDemandFeatureView:
    request = RequestSource(
        name=f"{group.name}_fields",
        schema=[Field(name=name, dtype=_TYPES[kind]) for name, kind in group.fields.items()],
    )
    used = [views[name][list(features)] for name, features in group.uses.items()]
    # Feast restores the function from its source text, so the text must stand alone: the declaration is inside it.
    declaration = group.model_dump_json()
    text = (
        f"def {group.name}(inputs):\n"
        "    from feature_repo.request_features import evaluate_columns\n\n"
        f"    return evaluate_columns({declaration!r}, inputs)\n"
    )
    namespace: dict[str, Any] = {}
    exec(text, namespace)  # noqa: S102 - our own text, built from a checked declaration
    return OnDemandFeatureView(
        name=group.name,
        sources=[*used, request],
        mode="python",
        schema=[Field(name=name, dtype=_TYPES[kind]) for name, kind in group.types.items()],
        udf=namespace[group.name],
        udf_string=text,
        description=group.description,
        owner=group.owner,
        tags={DECLARATION_TAG: declaration},
    )


def _feature_service(project: Project, product: ModelProduct, views: Mapping[str, Any]) -> FeatureService:
    return FeatureService(
        name=service_name(product),
        features=[views[name] for name in product.features],
        description=f"Features of {product.name}. {product.description}",
        owner=product.owner,
        tags={"definitions": definitions_hash(project, product)},
    )
