"""Check what configuration says of tables: that they exist, and that expressions parse and use their columns.

`configs` cannot: the curated tables are declared above it, and expressions are Polars SQL.
"""

from collections.abc import Iterator, Mapping

from configs.errors import ConfigError
from configs.features import Expression, RequestFeatures, StaticFeatures, TableFeatures, WindowedFeatures
from configs.load import Project
from configs.products import ModelProduct
from feature_repo.expressions import ExpressionError, roots
from mlway_assets.curation import CuratedTable


def check_declarations(project: Project, tables: Mapping[str, CuratedTable]) -> None:
    """Raises ConfigError naming the file, the field, what is wrong and what is known."""
    for group in project.features.values():
        if isinstance(group, RequestFeatures):
            _check_request_group(group)
        else:
            columns = _columns(tables, f"features/{group.name}.yaml", "table", group.table)
            for field, expression in _expressions(group):
                _check_expression(f"features/{group.name}.yaml", field, expression, columns)
    for product in project.products.values():
        _check_product(product, tables)


def _check_product(product: ModelProduct, tables: Mapping[str, CuratedTable]) -> None:
    file = f"products/{product.name}.yaml"
    columns = _columns(tables, file, "population.table", product.population.table)
    _check_expression(file, "label.expression", product.label.expression, columns)
    for field in (*product.population.request, product.label.known_at):
        _check_expression(file, "population.request", f'"{field}"', columns)


def _check_request_group(group: RequestFeatures) -> None:
    used = [name for names in group.uses.values() for name in names]
    columns = {*group.fields, *group.local_times, *used}
    for name, feature in group.features.items():
        _check_expression(f"features/{group.name}.yaml", f"features.{name}", feature.expression, columns)


def _expressions(group: TableFeatures) -> Iterator[tuple[str, Expression]]:
    """Field and expression of everything that a group computes from its table."""
    if group.where is not None:
        yield "where", group.where
    yield from (("join_keys", f'"{key}"') for key in group.join_keys)
    if isinstance(group, WindowedFeatures):
        for name, aggregation in group.aggregations.items():
            if aggregation.of is not None:
                yield f"aggregations.{name}.of", aggregation.of
            if aggregation.where is not None:
                yield f"aggregations.{name}.where", aggregation.where
    else:
        yield from ((f"features.{name}", feature.expression) for name, feature in group.features.items())
    if not isinstance(group, StaticFeatures):
        yield "known_at", f'"{group.known_at}"'
        yield from (("event_key", f'"{column}"') for column in group.event_key)


def _columns(tables: Mapping[str, CuratedTable], file: str, field: str, table: str) -> set[str]:
    if table not in tables:
        known = ", ".join(sorted(tables))
        raise ConfigError(
            file, field, f"there is no curated table {table!r}. Known: {known}.", "see mlway_assets/curation.py."
        )
    return set(tables[table].columns)


def _check_expression(file: str, field: str, expression: Expression, columns: set[str]) -> None:
    try:
        names = set(roots(expression))
    except ExpressionError as error:
        problem, _, hint = str(error).partition("\nHint: ")
        raise ConfigError(file, field, problem, hint) from error
    if unknown := sorted(names - columns):
        known = ", ".join(sorted(columns))
        raise ConfigError(file, field, f"{', '.join(unknown)} is not among the columns {known}.", "mend the spelling.")
