"""What of a decision is personal data, and how the decision log hides it: left out, or as a keyed hash.

Hidden are, as declared: features tagged `pii`, or of a group that is; the join keys of a group with such a feature,
since they say of whom it tells; `request_pii` of the product; request features that are computed from any of these; and
what a tagged request feature is computed from, since the log would give it away.
"""

import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from configs.environments import Decisions
from configs.features import FeatureGroup, RequestFeatures, WindowedFeatures
from configs.load import Project
from configs.products import ModelProduct

PII = "pii"


@dataclass(frozen=True)
class Privacy:
    """The fields and features that are hidden; with a key they are hashed, else left out."""

    fields: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()
    key: bytes | None = None

    @property
    def hides_anything(self) -> bool:
        """Whether anything is hidden."""
        return bool(self.fields or self.features)

    def visible_fields(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A request without its hidden fields."""
        return {name: value for name, value in request.items() if name not in self.fields}

    def visible_columns(self, features: Sequence[str], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """A matrix without its hidden columns."""
        kept = [place for place, name in enumerate(features) if name not in self.features]
        return matrix if len(kept) == len(features) else np.ascontiguousarray(matrix[:, kept])

    def hashes(
        self, requests: Sequence[Mapping[str, Any]], features: Sequence[str], matrix: NDArray[np.float64]
    ) -> list[dict[str, dict[str, str]]]:
        """For each row the HMAC-SHA256 of every hidden field and feature; none without a key."""
        if self.key is None:
            return []
        places = [(place, name) for place, name in enumerate(features) if name in self.features]
        return [
            {
                "fields": {
                    name: self.hash(name, orjson.dumps(request[name])) for name in self.fields if name in request
                },
                "features": {name: self.hash(name, matrix[row, place].tobytes()) for place, name in places},
            }
            for row, request in enumerate(requests)
        ]

    def hash(self, name: str, value: bytes) -> str:
        """HMAC-SHA256 of a field's JSON or a feature's float64, with its name: equal values of a field hash alike."""
        if self.key is None:
            raise ValueError("there is no key")
        return hmac.digest(self.key, name.encode() + b"\0" + value, "sha256").hex()


NOTHING_HIDDEN = Privacy()


def build_privacy(project: Project, product: ModelProduct, decisions: Decisions) -> Privacy:
    """What an environment's decision log hides of a product, and how."""
    fields, features = personal_data(project, product)
    secret = os.environ.get(decisions.pii_secret) if decisions.pii == "hash" and decisions.pii_secret else None
    return Privacy(fields, features, secret.encode() if secret else None)


def personal_data(project: Project, product: ModelProduct) -> tuple[frozenset[str], frozenset[str]]:
    """The request's fields, and the features of the product's groups, that the log hides."""
    fields, features = set(product.population.request_pii), set[str]()
    for group in project.table_groups(product):
        if tagged := _tagged(group):
            features |= tagged
            fields |= group.join_keys.keys()
    personal, inputs = fields | features, set[str]()
    for asked in project.request_groups(product):
        tagged = _tagged(asked)
        features |= {name for name in asked.features if name in tagged or _read_by(asked, name) & personal}
        inputs |= {read for name in tagged for read in _read_by(asked, name)}
    request = product.population.request.keys()
    return frozenset(fields | (inputs & request)), frozenset(features | (inputs - request))


def _tagged(group: FeatureGroup) -> set[str]:
    declared = (
        {name: aggregation.tags for name, (aggregation, _) in group.parts.items()}
        if isinstance(group, WindowedFeatures)
        else {name: feature.tags for name, feature in group.features.items()}
    )
    return {name for name, tags in declared.items() if PII in tags or PII in group.tags}


def _read_by(group: RequestFeatures, feature: str) -> set[str]:
    """Fields and features of other groups that a request feature's expression reads."""
    from feature_repo.expressions import parse

    roots = set(parse(group.features[feature].expression).meta.root_names())
    return {group.local_times[name].of if name in group.local_times else name for name in roots}
