"""Feast objects, built from the declared feature groups and products."""

from collections.abc import Mapping
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, OnDemandFeatureView, RequestSource
from feast.types import Bool, Float64, Int64, String, UnixTimestamp
from feast.value_type import ValueType

from configs.catalogue import DeclaredFeature, declared_features, using_products
from configs.environments import Environment
from configs.features import FeatureGroup, RequestFeatures, TableFeatures
from configs.load import Project
from configs.products import ModelProduct
from feature_repo.delta_source import DeltaSource
from feature_repo.feast_online_stores import DEFINITION_TAG
from feature_repo.online_layout import definition_of
from feature_repo.retrieval_job import DECLARATION_TAG
from feature_repo.services import definitions_hash, service_name
from feature_repo.windows import EVENT_TIMESTAMP

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
    views: dict[str, Any] = {group.name: _feature_view(project, group, entities, environment) for group in tables}
    for group in project.features.values():
        if isinstance(group, RequestFeatures):
            views[group.name] = _on_demand_view(project, group, views)
    services = [_feature_service(project, product, views) for product in project.products.values()]
    return [*entities.values(), *views.values(), *services]


def _feature_view(
    project: Project, group: TableFeatures, entities: Mapping[str, Entity], environment: Environment
) -> FeatureView:
    keys = [Field(name=name, dtype=_TYPES[kind]) for name, kind in group.join_keys.items()]
    return FeatureView(
        name=group.name,
        entities=[entities[key] for key in group.join_keys],
        ttl=group.time_to_live,
        schema=[*keys, *_fields(project, group)],
        source=DeltaSource(
            name=f"{group.name}_values",
            path=environment.lake.table_uri(FEATURES_LAYER, group.name),
            timestamp_field=EVENT_TIMESTAMP,
            description=f"Values of {group.name} over all history.",
            owner=group.owner or "",
        ),
        description=group.description,
        owner=group.owner or "",
        tags={"entity": group.entity, DEFINITION_TAG: definition_of(group)} | _view_tags(project, group),
    )


def _on_demand_view(project: Project, group: RequestFeatures, views: Mapping[str, FeatureView]) -> OnDemandFeatureView:
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
        # Feast drops what an on-demand view's fields say beyond name and type when it reads its registry (0.67), and
        # then refuses its own services for the difference: the view's tags say it.
        schema=[Field(name=name, dtype=_TYPES[kind]) for name, kind in group.types.items()],
        udf=namespace[group.name],
        udf_string=text,
        description=group.description,
        owner=group.owner or "",
        tags=_view_tags(project, group) | _described(project, group) | {DECLARATION_TAG: declaration},
    )


def _fields(project: Project, group: FeatureGroup) -> list[Field]:
    """The group's features with what `feast ui` shows of them."""
    return [
        Field(name=name, dtype=_TYPES[feature.type], description=feature.description, tags=_field_tags(feature))
        for name, feature in declared_features(project, group).items()
    ]


def _described(project: Project, group: FeatureGroup) -> dict[str, str]:
    """Feature to its description and marks."""
    features = declared_features(project, group).values()
    return {
        feature.name: " ".join([feature.description, *(f"[{tag}]" for tag in feature.tags)]).strip()
        for feature in features
    }


def _field_tags(feature: DeclaredFeature) -> dict[str, str]:
    """Feast's tags are pairs of texts; what is not known is left out."""
    tags = {
        "owner": feature.owner or "",
        "formula": feature.formula,
        "window": feature.window,
        "products": ", ".join(feature.products),
    }
    return {name: text for name, text in tags.items() if text} | dict.fromkeys(feature.tags, "true")


def _view_tags(project: Project, group: FeatureGroup) -> dict[str, str]:
    tags = {"kind": group.kind, "products": ", ".join(using_products(project, group))}
    return {name: text for name, text in tags.items() if text} | dict.fromkeys(group.tags, "true")


def _feature_service(project: Project, product: ModelProduct, views: Mapping[str, Any]) -> FeatureService:
    return FeatureService(
        name=service_name(product),
        features=[views[name] for name in product.features],
        description=f"Features of {product.name}. {product.description}",
        owner=product.owner,
        tags={"definitions": definitions_hash(project, product)},
    )
