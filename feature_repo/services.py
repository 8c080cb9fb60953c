"""What identifies a product's features: the service's name and the hash of its definitions. Needs no Feast."""

import hashlib
import json
from typing import Any

from configs.load import Project
from configs.products import ModelProduct

_PROSE = {"owner", "description", "tags"}
_FEATURES = {"features", "aggregations"}
"""Fields that hold one declaration for each feature, by name."""


def service_name(product: ModelProduct) -> str:
    """The feature service of a product."""
    return product.name


def definitions_hash(project: Project, product: ModelProduct) -> str:
    """SHA-256 over everything that decides the values of the product's features; owners, tags and prose do not.

    Not even `pii`: it says who may see a value, not what the value is. A model trained before the mark is the same.
    """
    groups = [_without_prose(project.features[name].model_dump(mode="json")) for name in product.features]
    text = json.dumps({"groups": groups, "exclude": sorted(product.exclude)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _without_prose(group: dict[str, Any]) -> dict[str, Any]:
    """A group's declaration without what people read; its features' too."""
    kept = {field: value for field, value in group.items() if field not in _PROSE}
    for field in _FEATURES & kept.keys():
        kept[field] = {name: _without_prose(feature) for name, feature in kept[field].items()}
    return kept
