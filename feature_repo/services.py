"""What identifies a product's features: the service's name and the hash of its definitions. Needs no Feast."""

import hashlib
import json

from configs.load import Project
from configs.products import ModelProduct


def service_name(product: ModelProduct) -> str:
    """The feature service of a product."""
    return product.name


def definitions_hash(project: Project, product: ModelProduct) -> str:
    """SHA-256 over everything that decides the values of the product's features; owners and prose do not."""
    groups = [
        project.features[name].model_dump(mode="json", exclude={"owner", "description"}) for name in product.features
    ]
    text = json.dumps({"groups": groups, "exclude": sorted(product.exclude)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
