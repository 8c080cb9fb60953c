"""What identifies a product's features: the service's name and the hash of its definitions. Needs no Feast."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from configs.features import FeatureGroup, PythonExpression
from configs.load import Project
from configs.products import ModelProduct
from feature_repo.expressions import source_digest

_PROSE = {"owner", "description", "tags", "allowed_lateness"}
"""What people read, and what a stream alone heeds."""
_FEATURES = {"features", "aggregations"}
"""Fields that hold one declaration for each feature, by name."""


def service_name(product: ModelProduct) -> str:
    """The feature service of a product."""
    return product.name


def definitions_hash(project: Project, product: ModelProduct) -> str:
    """SHA-256 over everything that decides the values of the product's features; owners, tags and prose do not.

    Not even `pii`: it says who may see a value, not what the value is. A model trained before the mark is the same.
    """
    groups = [_decisive(project.features[name]) for name in product.features]
    return _digest({"groups": groups, "exclude": sorted(product.exclude)})


def group_digest(group: FeatureGroup) -> str:
    """SHA-256 over everything that decides the values of one group."""
    return _digest(_decisive(group))


def _digest(declared: Any) -> str:
    return hashlib.sha256(json.dumps(declared, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _decisive(group: FeatureGroup) -> dict[str, Any]:
    """What decides the group's values: its declaration, and the source of the Python functions that it names."""
    declared = _without_prose(group.model_dump(mode="json"))
    functions = {path: source_digest(path) for path in _python_paths(group)}
    return declared | ({"functions": functions} if functions else {})


def _python_paths(declared: Any) -> Iterator[str]:
    """Of the functions by their type: a field of the request may be called `python` too."""
    if isinstance(declared, PythonExpression):
        yield declared.python
    elif isinstance(declared, BaseModel):
        for field in type(declared).model_fields:
            yield from _python_paths(getattr(declared, field))
    elif isinstance(declared, Mapping):
        for part in declared.values():
            yield from _python_paths(part)


def _without_prose(group: dict[str, Any]) -> dict[str, Any]:
    """A group's declaration without what people read; its features' too."""
    kept = {field: value for field, value in group.items() if field not in _PROSE}
    for field in _FEATURES & kept.keys():
        kept[field] = {name: _without_prose(feature) for name, feature in kept[field].items()}
    return kept
