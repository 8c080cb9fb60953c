"""The catalogue of features: what is declared, beside what the newest values in the lake look like.

Declarations alone: see `configs/catalogue.py`. Nothing is computed from data here: the statistics were written with
the values. How it is printed does not belong here: see `mlway_assets/catalogue_tables.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import TypeAdapter

from configs.catalogue import CatalogueWarning, DeclaredFeature, catalogue_warnings, declared_features
from configs.errors import MlwayError
from configs.features import FeatureGroup, RequestFeatures, StaticFeatures, Tag
from configs.load import Project
from configs.schema import format_duration
from mlway_assets.column_lineage import Column, feature_raw_origins, group_origins, request_origins
from mlway_assets.compute.feature_statistics import FeatureStatistics, GroupStatistics
from mlway_assets.feature_tables import INPUTS, LAYER, STATISTICS
from mlway_assets.lake import Commit
from mlway_assets.resources import Platform
from mlway_assets.training_sets import LAYER as TRAINING_SETS

Freshness = Literal["fresh", "stale", "never", "always", "on request"]
"""Of a group's values: its newest event is within the time to live, or older; nothing was written yet; static features
do not age; those of a request are computed when it is answered."""


class UnknownFeatureError(MlwayError):
    """Neither a group nor a feature has the name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        close = get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "`mlway features` lists them."
        super().__init__(f"No feature or feature group is called {name!r}.\nHint: {hint}")


@dataclass(frozen=True)
class CatalogueFeature:
    """A declared feature, the columns it comes from directly and in the end, and its statistics once there are any."""

    declared: DeclaredFeature
    columns: list[Column]
    raw_columns: list[Column]
    statistics: FeatureStatistics | None


@dataclass(frozen=True)
class CatalogueGroup:
    """A feature group. `values` names the table and the version that the statistics are of."""

    name: str
    kind: str
    description: str
    owner: str | None
    tags: tuple[Tag, ...]
    entity: str | None
    join_keys: Mapping[str, str]
    table: str | None
    time_to_live: str | None
    values: str | None
    inputs: Mapping[str, int]
    """Delta version of each table that these values were made from."""
    written_at: datetime | None
    freshness: Freshness
    age_seconds: float | None
    """Since the newest event that the values know of."""
    statistics: GroupStatistics | None
    features: Mapping[str, CatalogueFeature]


@dataclass(frozen=True)
class Catalogue:
    """Groups by name as of a moment, and what somebody should mind."""

    environment: str
    as_of: datetime
    groups: Mapping[str, CatalogueGroup]
    warnings: list[CatalogueWarning]

    def only(self, name: str) -> "Catalogue":
        """The group called `name`, or the features called `name` or `group:feature`. Raises UnknownFeatureError."""
        found = {group.name: part for group in self.groups.values() if (part := _part(group, name))}
        if not found:
            known = [known for group in self.groups.values() for known in (group.name, *group.features)]
            raise UnknownFeatureError(name, known)
        about = [warning for warning in self.warnings if _concerns(warning, found)]
        return replace(self, groups=found, warnings=about)

    def as_json(self) -> dict[str, Any]:
        """Plain values: what `mlway features --json` prints."""
        plain: dict[str, Any] = TypeAdapter(Catalogue).dump_python(self, mode="json")
        for group in plain["groups"].values():
            group["features"] = {name: feature.pop("declared") | feature for name, feature in group["features"].items()}
        return plain


def build_catalogue(platform: Platform) -> Catalogue:
    """Every feature of the project. Works before anything was computed."""
    now = platform.clock.now()
    groups = {name: _group(platform, group, now) for name, group in platform.project.features.items()}
    return Catalogue(platform.environment.name, now, groups, catalogue_warnings(platform.project))


def _group(platform: Platform, group: FeatureGroup, now: datetime) -> CatalogueGroup:
    commit, values = _newest_values(platform, group)
    statistics = GroupStatistics.model_validate(commit.metadata[STATISTICS]) if commit else None
    newest = statistics.newest_event if statistics else None
    age = (now - newest).total_seconds() if newest else None
    from_table = None if isinstance(group, RequestFeatures) else group
    return CatalogueGroup(
        name=group.name,
        kind=group.kind,
        description=group.description,
        owner=group.owner,
        tags=group.tags,
        entity=from_table.entity if from_table else None,
        join_keys=from_table.join_keys if from_table else {},
        table=from_table.table if from_table else None,
        time_to_live=format_duration(from_table.time_to_live) if from_table and from_table.time_to_live else None,
        values=values,
        inputs=commit.metadata.get(INPUTS, {}) if commit else {},
        written_at=commit.written_at if commit else None,
        freshness=_freshness(group, commit is not None, age),
        age_seconds=age,
        statistics=statistics,
        features=_features(platform.project, group, statistics),
    )


def _features(project: Project, group: FeatureGroup, statistics: GroupStatistics | None) -> dict[str, CatalogueFeature]:
    origins = request_origins(group) if isinstance(group, RequestFeatures) else group_origins(group)
    return {
        name: CatalogueFeature(
            declared,
            list(origins[name]),
            feature_raw_origins(project, group, name),
            statistics.features.get(name) if statistics else None,
        )
        for name, declared in declared_features(project, group).items()
    }


def _newest_values(platform: Platform, group: FeatureGroup) -> tuple[Commit | None, str | None]:
    """The commit that holds the group's statistics, and the name of what it wrote.

    A request group has no table: its values stand in the training sets of the products that it is a part of.
    """
    if not isinstance(group, RequestFeatures):
        tables = [(LAYER, group.name)]
    else:
        users = (name for name, product in platform.project.products.items() if group.name in product.features)
        tables = [(TRAINING_SETS, name) for name in users]
    for layer, table in tables:
        if commit := platform.lake.newest_recorded(layer, table, STATISTICS):
            return commit, f"{layer}/{table}@{commit.version}"
    return None, None


def _freshness(group: FeatureGroup, is_written: bool, age: float | None) -> Freshness:
    if isinstance(group, RequestFeatures):
        return "on request"
    if not is_written:
        return "never"
    if isinstance(group, StaticFeatures):
        return "always"
    return "fresh" if age is not None and age <= group.time_to_live.total_seconds() else "stale"


def _part(group: CatalogueGroup, name: str) -> CatalogueGroup | None:
    """The group as far as `name` means it."""
    if name == group.name:
        return group
    meant = {
        feature: found for feature, found in group.features.items() if name in (feature, f"{group.name}:{feature}")
    }
    return replace(group, features=meant) if meant else None


def _concerns(warning: CatalogueWarning, groups: Mapping[str, CatalogueGroup]) -> bool:
    group = groups.get(warning.group)
    return group is not None and (warning.feature is None or warning.feature in group.features)
