"""Whether the YAML files agree: what one names must be in another, and no two may give a name to different things."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from configs.errors import ConfigError
from configs.features import FeatureGroup, RequestFeatures
from configs.gates import PromotionGate
from configs.products import ModelProduct

if TYPE_CHECKING:
    from configs.load import Project

_EVENT_TIMESTAMP = "event_timestamp"
_PRODUCED = frozenset({
    "event_day", "decision_id", "row", "at", "label", "label_known_at", "query_key",
    "score", "lower", "upper", "rank", "model_version", "model_digest",
})  # fmt: skip
"""Columns that training sets, predictions and answers have beside the request's."""


def check_agreement(project: "Project") -> None:
    """Raises ConfigError naming the file, the field, what is wrong and what is known."""
    _check_raw_tables(project)
    _check_curated_tables(project)
    for group in project.features.values():
        _check_names(group)
        if isinstance(group, RequestFeatures):
            _check_request_features(project, group)
    for product in project.products.values():
        _check_product(project, product)


def _check_raw_tables(project: "Project") -> None:
    owners: dict[str, str] = {}
    for source in project.sources.values():
        for table in source.tables:
            if table in owners:
                raise ConfigError(
                    f"sources/{source.name}.yaml",
                    f"tables.{table}",
                    f"the source {owners[table]!r} has a table of that name",
                    "rename one of them.",
                )
            owners[table] = source.name


def _check_curated_tables(project: "Project") -> None:
    owners: dict[str, str] = {}
    for source in project.sources.values():
        for raw, table in source.tables.items():
            if table.curated is None:
                continue
            name = table.curated.name or raw
            if name in owners:
                raise ConfigError(
                    f"sources/{source.name}.yaml",
                    f"tables.{raw}.curated.name",
                    f"the source {owners[name]!r} has a curated table {name!r} already",
                    "give one of them another `name`.",
                )
            owners[name] = source.name


def _reference(file: str, field: str, name: str, known: Iterable[str]) -> None:
    known = sorted(known)
    if name not in known:
        raise ConfigError(
            file,
            field,
            f"{name!r} is not known. Known: {', '.join(known) or 'none'}.",
            "use a known name, or declare it.",
        )


def _check_free_names(file: str, field: str, names: Iterable[str]) -> None:
    for name in names:
        if name == _EVENT_TIMESTAMP or name.startswith("__"):
            problem = f"{name!r} is taken: event_timestamp, and what begins with __, are the calculations' own columns"
            raise ConfigError(file, field, problem, "rename it.")


def _check_names(group: FeatureGroup) -> None:
    file = f"features/{group.name}.yaml"
    if isinstance(group, RequestFeatures):
        _check_free_names(file, "fields", group.fields)
    else:
        _check_free_names(file, "join_keys", group.join_keys)
        if both := sorted(group.types.keys() & group.join_keys.keys()):
            raise ConfigError(file, "features", f"{both[0]!r} is a join key too", "rename the feature.")
    _check_free_names(file, "features", group.types)


def _check_request_features(project: "Project", group: RequestFeatures) -> None:
    file = f"features/{group.name}.yaml"
    for other, names in group.uses.items():
        _reference(file, "uses", other, [name for name, known in project.features.items() if known.kind != "request"])
        for name in names:
            _reference(file, f"uses.{other}", name, project.features[other].types)
    for name, local in group.local_times.items():
        _reference(file, f"local_times.{name}.of", local.of, group.fields)


def _check_product(project: "Project", product: ModelProduct) -> None:
    file = f"products/{product.name}.yaml"
    request = product.population.request
    _check_free_names(file, "population.request", request)
    for name in sorted(request.keys() & _PRODUCED):
        raise ConfigError(
            file, "population.request", f"{name!r} is a column of training sets or predictions", "rename the field."
        )
    owners: dict[str, str] = {}
    for group_name in product.features:
        _reference(file, "features", group_name, project.features)
        group = project.features[group_name]
        needed = group.fields if isinstance(group, RequestFeatures) else group.join_keys
        for field, kind in needed.items():
            if request.get(field) != kind:
                raise ConfigError(
                    file,
                    "population.request",
                    f"feature group {group_name!r} needs {field!r} as {kind}",
                    "add it to the request, or drop the group.",
                )
        for other in group.uses if isinstance(group, RequestFeatures) else ():
            _reference(file, f"features ({group_name} uses it)", other, product.features)
        for name in group.types:
            if name in request:
                raise ConfigError(
                    file,
                    "features",
                    f"{group_name!r} has a feature called like the request's {name!r}",
                    "rename the feature.",
                )
            if name in owners:
                raise ConfigError(
                    file, "features", f"{owners[name]!r} and {group_name!r} both have {name!r}", "rename one of them."
                )
            owners[name] = group_name
    for name in product.exclude:
        _reference(file, "exclude", name, owners)
    for name in product.card.slices:
        _reference(file, "card.slices", name, [*request, *owners])
    _check_gate(file, product.gate, [*request, *owners], project.model_features(product))


def _check_gate(file: str, gate: PromotionGate, columns: Iterable[str], features: Mapping[str, str]) -> None:
    """What it names, which a training would else miss when it is done."""
    for field, parts in (("slices", gate.slices), ("fairness", gate.fairness)):
        for name in parts.by if parts else ():
            _reference(file, f"gate.{field}.by", name, columns)
    if gate.behaviour is None:
        return
    in_order = [name for name, kind in features.items() if kind != "string"]
    for name in gate.behaviour.increasing:
        _reference(file, "gate.behaviour.increasing", name, in_order)
    for name in gate.behaviour.decreasing:
        _reference(file, "gate.behaviour.decreasing", name, in_order)
    for name in gate.behaviour.invariant:
        _reference(file, "gate.behaviour.invariant", name, features)
