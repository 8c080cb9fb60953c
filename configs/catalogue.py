"""What the declarations say of each feature: its formula, window and marks, who uses it, and what is amiss.

What the data say of it (statistics, freshness) does not belong here: see `mlway_assets/feature_catalogue.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from configs.features import (
    Aggregation,
    ColumnFeature,
    Expression,
    FeatureGroup,
    RequestFeatures,
    Tag,
    WindowedFeatures,
)
from configs.load import Project
from configs.products import ModelProduct
from configs.schema import format_duration

MODEL = "model"
"""A product's use of a feature that its model sees."""


@dataclass(frozen=True)
class DeclaredFeature:
    """One feature as declared. Tags are its own and its group's; `window` is empty but for windowed features."""

    group: str
    name: str
    type: str
    owner: str | None
    description: str
    tags: tuple[Tag, ...]
    formula: str
    window: str
    products: Mapping[str, str]
    """Product to how it uses the feature: `model`, or `input of GROUP` for a request group of the product."""


@dataclass(frozen=True)
class CatalogueWarning:
    """Something that nobody minded: of a feature, or of a whole group where `feature` is None."""

    kind: str
    group: str
    feature: str | None
    message: str


def declared_features(project: Project, group: FeatureGroup) -> dict[str, DeclaredFeature]:
    """Every feature of a group, in the order declared."""
    return {
        name: DeclaredFeature(
            group=group.name,
            name=name,
            type=kind,
            owner=group.owner,
            description=declaration.description,
            tags=tuple(dict.fromkeys((*group.tags, *declaration.tags))),
            formula=_formula(declaration),
            window=format_duration(group.parts[name][1]) if isinstance(group, WindowedFeatures) else "",
            products=_products(project, group.name, name),
        )
        for name, kind in group.types.items()
        for declaration in (_declaration(group, name),)
    }


def using_products(project: Project, group: FeatureGroup) -> list[str]:
    """Products that use a feature of the group."""
    used = (feature.products for feature in declared_features(project, group).values())
    return list(dict.fromkeys(product for products in used for product in products))


def catalogue_warnings(project: Project) -> list[CatalogueWarning]:
    """Groups without owner; features that no product uses; deprecated features that one does use."""
    found = []
    for group in project.features.values():
        if group.owner is None:
            found.append(_warning("no_owner", group.name, None, f"{group.name} has no owner: add `owner` to its file."))
        for feature in declared_features(project, group).values():
            if not feature.products:
                text = f"No product uses {group.name}:{feature.name}. Use it, or take it out of its file."
                found.append(_warning("unused", group.name, feature.name, text))
            elif "deprecated" in feature.tags:
                users = ", ".join(feature.products)
                use = "uses" if len(feature.products) == 1 else "use"
                text = f"{group.name}:{feature.name} is deprecated, and {users} {use} it."
                found.append(_warning("deprecated", group.name, feature.name, text))
    return found


def _warning(kind: str, group: str, feature: str | None, message: str) -> CatalogueWarning:
    return CatalogueWarning(kind, group, feature, message)


def _declaration(group: FeatureGroup, name: str) -> Aggregation | ColumnFeature:
    return group.parts[name][0] if isinstance(group, WindowedFeatures) else group.features[name]


def _formula(declaration: Aggregation | ColumnFeature) -> str:
    if isinstance(declaration, ColumnFeature):
        return _text(declaration.expression)
    settings = declaration.model_dump(mode="json", exclude_defaults=True)
    settings = {
        name: value for name, value in settings.items() if name not in {"function", "of", "description", "tags"}
    }
    if declaration.where is not None:
        settings["where"] = _text(declaration.where)
    of = "*" if declaration.of is None else _text(declaration.of)
    return f"{declaration.function}({', '.join([of, *(f'{name}={value}' for name, value in settings.items())])})"


def _text(expression: Expression) -> str:
    return expression if isinstance(expression, str) else f"python {expression.python}"


def _products(project: Project, group: str, feature: str) -> dict[str, str]:
    uses = {name: _use(project, product, group, feature) for name, product in project.products.items()}
    return {name: use for name, use in uses.items() if use}


def _use(project: Project, product: ModelProduct, group: str, feature: str) -> str:
    """How a product uses a feature; empty where it does not. Being excluded is no use."""
    if group not in product.features:
        return ""
    if feature not in product.exclude:
        return MODEL
    readers = [
        other.name
        for name in product.features
        if isinstance(other := project.features[name], RequestFeatures) and feature in other.uses.get(group, ())
    ]
    return f"input of {', '.join(readers)}" if readers else ""
