"""Which columns each column comes from, from a training set back to raw tables. Knows tables, not Dagster's keys.

A column comes from every column that decides its values: those in its expression, those in the condition that picks
its rows, and the one that says when they became known.
"""

from collections.abc import Iterable, Mapping

from configs.features import FeatureGroup, LatestFeatures, RequestFeatures, StaticFeatures, TableFeatures
from configs.load import Project
from configs.products import ModelProduct
from feature_repo.expressions import roots
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.compute.population import LABEL, LABEL_KNOWN_AT, QUERY
from mlway_assets.declared_tables import curated_tables

Column = tuple[str, str, str]
"""Layer, table, column."""
ColumnOrigins = Mapping[str, list[Column]]
"""Column of a table to the columns that it comes from."""


def group_origins(group: TableFeatures) -> ColumnOrigins:
    """The columns of a feature group's table, each with the curated columns it comes from."""
    always = roots(group.where) if group.where else []
    if not isinstance(group, StaticFeatures):
        always = [*always, group.known_at, *group.event_key]
    columns: dict[str, Iterable[str]] = {key: [key] for key in group.join_keys}
    columns |= {name: [*_formula_roots(group, name), *always] for name in group.types}
    columns[EVENT_TIMESTAMP] = always
    return {name: [("curated", group.table, root) for root in dict.fromkeys(found)] for name, found in columns.items()}


def training_set_origins(project: Project, product: ModelProduct) -> ColumnOrigins:
    """The columns of a product's training set, each with the feature and curated columns it comes from."""
    population, label = product.population, product.label
    columns: dict[str, list[str]] = {field: [field] for field in population.request}
    columns[EVENT_TIMESTAMP] = [population.event_time]
    if product.ranking is not None:
        columns[QUERY] = list(dict.fromkeys(root for part in product.ranking.groups for root in roots(part)))
        columns[EVENT_TIMESTAMP] = list(dict.fromkeys([population.event_time, *columns[QUERY]]))
    columns |= {LABEL: roots(label.expression), LABEL_KNOWN_AT: [label.known_at]}
    origins = {name: [("curated", population.table, root) for root in found] for name, found in columns.items()}
    for group in (project.features[name] for name in product.features):
        origins |= _joined(group) if not isinstance(group, RequestFeatures) else _requested(group, origins)
    return origins


def raw_origins(column: Column, project: Project) -> list[Column]:
    """The raw columns that a feature's or curated column comes from, however many tables lie between."""
    found = dict.fromkeys(raw for origin in _parents(column, project) for raw in _as_raw(origin, project))
    return list(found)


def feature_raw_origins(project: Project, group: FeatureGroup, feature: str) -> list[Column]:
    """The raw columns of one feature. A request's fields are raw columns of no table: the request brings them."""
    if not isinstance(group, RequestFeatures):
        return raw_origins(("features", group.name, feature), project)
    found = dict.fromkeys(
        raw
        for layer, table, column in request_origins(group)[feature]
        for raw in ([(layer, table, column)] if layer == "request" else raw_origins((layer, table, column), project))
    )
    return list(found)


def request_origins(group: RequestFeatures) -> ColumnOrigins:
    """The features of a request group, each with the features and the request's fields (layer `request`) it uses."""
    used = {name: ("features", other, name) for other, names in group.uses.items() for name in names}
    columns = {name: ("request", group.name, name) for name in group.fields}
    columns |= {name: ("request", group.name, local.of) for name, local in group.local_times.items()} | used
    return {
        name: list(dict.fromkeys(columns[root] for root in roots(feature.expression)))
        for name, feature in group.features.items()
    }


def _joined(group: TableFeatures) -> ColumnOrigins:
    return {name: [("features", group.name, name)] for name in group.types}


def _requested(group: RequestFeatures, fields: ColumnOrigins) -> ColumnOrigins:
    """As `request_origins`, with each of the request's fields traced to the population's table."""
    return {
        name: [origin for column in found for origin in (fields[column[2]] if column[0] == "request" else [column])]
        for name, found in request_origins(group).items()
    }


def _formula_roots(group: TableFeatures, name: str) -> list[str]:
    if isinstance(group, StaticFeatures | LatestFeatures):
        return roots(group.features[name].expression)
    aggregation, _ = group.parts[name]
    read = [expression for expression in (aggregation.of, aggregation.where) if expression is not None]
    return [root for expression in read for root in roots(expression)]


def _as_raw(column: Column, project: Project) -> list[Column]:
    return [column] if column[0] == "raw" else raw_origins(column, project)


def _parents(column: Column, project: Project) -> list[Column]:
    layer, table, name = column
    if layer == "features":
        group = project.features[table]
        return [] if isinstance(group, RequestFeatures) else list(group_origins(group).get(name, []))
    return [(*source, original) for source, original in curated_tables(project)[table].column_inputs(name)]
