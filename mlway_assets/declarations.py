"""Check what configuration says of tables: that they exist, and that expressions parse and use their columns.

`configs` cannot: the curated tables are declared above it, and expressions are Polars SQL.
"""

from collections.abc import Iterator, Mapping

from configs.errors import ConfigError
from configs.features import RequestFeatures, TableFeatures, WindowedFeatures
from configs.load import Project
from configs.products import ModelProduct
from mlway_assets.curation import CuratedTable
from mlway_assets.expressions import check_names


def check_declarations(project: Project, tables: Mapping[str, CuratedTable]) -> None:
    """Raises ConfigError naming the file, the field, what is wrong and what is known."""
    for group in project.features.values():
        if isinstance(group, RequestFeatures):
            _check_request_group(group)
        else:
            columns = _columns(tables, f"features/{group.name}.yaml", "table", group.table)
            for field, expression in _expressions(group):
                check_names(f"features/{group.name}.yaml", field, expression, columns)
    for product in project.products.values():
        _check_product(product, tables)


def _check_product(product: ModelProduct, tables: Mapping[str, CuratedTable]) -> None:
    file = f"products/{product.name}.yaml"
    columns = _columns(tables, file, "population.table", product.population.table)
    check_names(file, "label.expression", product.label.expression, columns)
    for field in (*product.population.request, product.label.known_at):
        check_names(file, "population.request", f'"{field}"', columns)


def _check_request_group(group: RequestFeatures) -> None:
    used = [name for names in group.uses.values() for name in names]
    columns = {*group.fields, *group.local_times, *used}
    for name, feature in group.features.items():
        check_names(f"features/{group.name}.yaml", f"features.{name}", feature.expression, columns)


def _expressions(group: TableFeatures) -> Iterator[tuple[str, str]]:
    """Field and expression of everything that a group computes from its table."""
    if group.where is not None:
        yield "where", group.where
    yield from (("join_keys", f'"{key}"') for key in group.join_keys)
    if isinstance(group, WindowedFeatures):
        for name, aggregation in group.aggregations.items():
            if aggregation.of is not None:
                yield f"aggregations.{name}.of", aggregation.of
    else:
        yield from ((f"features.{name}", feature.expression) for name, feature in group.features.items())
    if group.kind != "static":
        yield "known_at", f'"{group.known_at}"'


def _columns(tables: Mapping[str, CuratedTable], file: str, field: str, table: str) -> set[str]:
    if table not in tables:
        known = ", ".join(sorted(tables))
        raise ConfigError(
            file,
            field,
            f"there is no curated table {table!r}. Known: {known or 'none'}.",
            "declare it: `curated` in a source file, or mlway_assets/curation.py.",
        )
    return set(tables[table].columns)
