"""Check what configuration says of tables: that they exist and hold such columns, and that expressions parse.

`configs` cannot: the curated tables are declared above it, and expressions are Polars SQL.
"""

from collections.abc import Iterator, Mapping
from datetime import date

import polars as pl

from configs.errors import ConfigError
from configs.features import Expression, RequestFeatures, StaticFeatures, TableFeatures, WindowedFeatures
from configs.load import Project
from configs.products import ModelProduct, Population
from configs.sources import EVENT_DAY
from configs.tasks import Ranking
from feature_repo.column_types import POLARS_TYPES
from feature_repo.expressions import parse, roots
from mlway_assets.compute.population import LABEL
from mlway_assets.curation import CuratedTable
from mlway_assets.decision_table import table_name
from mlway_assets.expressions import check_names, row_type


def check_declarations(project: Project, tables: Mapping[str, CuratedTable]) -> None:
    """Raises ConfigError naming the file, the field, what is wrong and what is known."""
    for group in project.features.values():
        if isinstance(group, RequestFeatures):
            _check_request_group(project, group)
        else:
            _check_table_group(group, tables)
    for product in project.products.values():
        _check_product(product, tables)
        _check_known_cases(project, product)
        _check_decisions_table(project, product)


def _check_table_group(group: TableFeatures, tables: Mapping[str, CuratedTable]) -> None:
    file = f"features/{group.name}.yaml"
    columns = _columns(tables, file, "table", group.table)
    for field, expression in _expressions(group):
        _check_expression(file, field, expression, columns)
    for key, kind in group.join_keys.items():
        _check_type(file, f"join_keys.{key}", key, kind, columns)
    if group.kind != "static":
        _check_type(file, "known_at", group.known_at, "timestamp", columns)


def _check_product(product: ModelProduct, tables: Mapping[str, CuratedTable]) -> None:
    file = f"products/{product.name}.yaml"
    columns = _columns(tables, file, "population.table", product.population.table)
    label = row_type(file, "label.expression", product.label.expression, columns)
    _check_label(file, product, label)
    if product.ranking is not None:
        _check_ranking(file, product.ranking, label, columns)
        _check_queries(file, product.ranking, product.population, columns)
    for field, kind in product.population.request.items():
        _check_type(file, f"population.request.{field}", field, kind, columns)
    _check_type(file, "label.known_at", product.label.known_at, "timestamp", columns)


def _check_label(file: str, product: ModelProduct, label: pl.DataType) -> None:
    wanted, is_right = {
        "binary": ("true or false", label == pl.Boolean or label.is_integer()),
        "regression": ("a number", label.is_numeric()),
        "ranking": ("what `ranking.relevance` grades", True),
    }[product.task]
    if not is_right:
        problem = f"a {product.task} learns {wanted}, and {product.label.expression!r} gives {label}"
        raise ConfigError(file, "label.expression", problem, "mend the expression, or `task`.")


def _check_ranking(file: str, ranking: Ranking, label: pl.DataType, columns: Mapping[str, pl.DataType]) -> None:
    for number, part in enumerate(ranking.groups):
        row_type(file, f"ranking.groups.{number}", part, columns)
    relevance = row_type(file, "ranking.relevance", ranking.relevance, {LABEL: label})
    if not relevance.is_integer():
        problem = f"{ranking.relevance!r} gives {relevance}, not whole numbers"
        raise ConfigError(file, "ranking.relevance", problem, "give grades such as 0, 1 and 2, by CASE WHEN.")


def _check_queries(file: str, ranking: Ranking, population: Population, columns: Mapping[str, pl.DataType]) -> None:
    """That no query reaches over days, as far as its groups alone say it. A training set looks at the rows."""
    if EVENT_DAY not in columns:
        problem = f"{population.table!r} has no {EVENT_DAY!r}: queries are put in order day by day"
        raise ConfigError(file, "population.table", problem, "use a table that is kept by event day.")
    if not {name for part in ranking.groups for name in roots(part)} <= {EVENT_DAY, population.event_time}:
        return
    days = pl.date_range(date(2012, 1, 1), date(2013, 12, 31), eager=True).alias(EVENT_DAY)
    noons = pl.col(EVENT_DAY).cast(pl.Datetime("us")).dt.offset_by("12h").dt.replace_time_zone("UTC")
    rows = days.to_frame().with_columns(noons.alias(population.event_time))
    keys = rows.with_columns(parse(part).alias(f"part_{number}") for number, part in enumerate(ranking.groups))
    if keys.n_unique([f"part_{number}" for number in range(len(ranking.groups))]) < len(days):
        problem = f"{', '.join(map(repr, ranking.groups))} make one query of rows of several days"
        raise ConfigError(file, "ranking.groups", problem, f"add {EVENT_DAY!r}.")


def _check_known_cases(project: Project, product: ModelProduct) -> None:
    """That each is a condition over what a row has, and tells rows apart by itself."""
    kinds = dict(product.population.request)
    for group in product.features:
        kinds |= project.features[group].types
    columns = {name: POLARS_TYPES[kind] for name, kind in kinds.items()}
    for case in product.gate.behaviour.cases if product.gate.behaviour else ():
        file, field = f"products/{product.name}.yaml", f"gate.behaviour.cases.{case.name}.when"
        if (found := row_type(file, field, case.when, columns)) != pl.Boolean:
            raise ConfigError(file, field, f"{case.when!r} gives {found}, not true or false", "write a condition.")


def _check_decisions_table(project: Project, product: ModelProduct) -> None:
    for source in project.sources.values():
        if (name := table_name(product.name)) in source.tables:
            raise ConfigError(
                f"sources/{source.name}.yaml",
                f"tables.{name}",
                f"the raw table {name!r} is that of {product.name}'s decision log",
                "rename yours.",
            )


def _check_type(file: str, field: str, column: str, kind: str, columns: Mapping[str, pl.DataType]) -> None:
    check_names(file, field, f'"{column}"', columns)
    if columns[column] != POLARS_TYPES[kind]:
        raise ConfigError(
            file,
            field,
            f"the column {column!r} holds {columns[column]}, not {kind}",
            "say the table's type here, or change it where the table is declared.",
        )


def _check_request_group(project: Project, group: RequestFeatures) -> None:
    used = {name: project.features[other].types[name] for other, names in group.uses.items() for name in names}
    columns = {name: POLARS_TYPES[kind] for name, kind in {**group.fields, **used}.items()}
    columns |= dict.fromkeys(group.local_times, pl.Datetime("us"))
    for name, feature in group.features.items():
        _check_expression(f"features/{group.name}.yaml", f"features.{name}", feature.expression, columns)


def _check_expression(file: str, field: str, expression: Expression, columns: Mapping[str, pl.DataType]) -> None:
    """SQL is checked whole; of what a Python function gives, only the names: it may do what SQL cannot."""
    if isinstance(expression, str):
        row_type(file, field, expression, columns)
    else:
        check_names(file, field, expression, columns)


def _expressions(group: TableFeatures) -> Iterator[tuple[str, Expression]]:
    """Field and expression of everything that a group computes from its table."""
    if group.where is not None:
        yield "where", group.where
    if isinstance(group, WindowedFeatures):
        for name, aggregation in group.aggregations.items():
            if aggregation.of is not None:
                yield f"aggregations.{name}.of", aggregation.of
            if aggregation.where is not None:
                yield f"aggregations.{name}.where", aggregation.where
    else:
        yield from ((f"features.{name}", feature.expression) for name, feature in group.features.items())
    if not isinstance(group, StaticFeatures):
        yield from (("event_key", f'"{column}"') for column in group.event_key)


def _columns(tables: Mapping[str, CuratedTable], file: str, field: str, table: str) -> Mapping[str, pl.DataType]:
    if table not in tables:
        known = ", ".join(sorted(tables))
        raise ConfigError(
            file,
            field,
            f"there is no curated table {table!r}. Known: {known or 'none'}.",
            "declare it: `curated` in a source file, or mlway_assets/curation.py.",
        )
    return tables[table].columns
