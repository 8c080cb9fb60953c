"""The curated tables of a project: those that its source files declare, and those written in Python for its raw tables.

Both are CuratedTables and take the same way: quarantine, contract, blocking checks, lineage.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import polars as pl

from configs.errors import ConfigError
from configs.load import Project
from configs.sources import EVENT_DAY, Source, SourceTable
from feature_repo.column_types import POLARS_TYPES
from feature_repo.expressions import parse
from mlway_assets import contracts
from mlway_assets.compute.conversion import can_become
from mlway_assets.compute.declared import curate_declared, sql_name
from mlway_assets.curation import CURATED_TABLES, CuratedTable
from mlway_assets.expressions import row_type

Columns = Mapping[str, pl.DataType]


def curated_tables(project: Project, written: Mapping[str, CuratedTable] = CURATED_TABLES) -> dict[str, CuratedTable]:
    """Every curated table of the project by name. Of those `written` in Python, the ones whose raw tables it has.

    Raises ConfigError where a name is taken, a declared expression does not fit its raw table, or a raw table that a
    Python function needs is missing beside another that it needs.
    """
    tables = _written_for(project, written)
    for source in project.sources.values():
        for raw, table in source.tables.items():
            if table.curated is None:
                continue
            declared = declared_table(source, raw)
            if declared.name in tables:
                raise ConfigError(
                    f"sources/{source.name}.yaml",
                    f"tables.{raw}.curated.name",
                    f"mlway_assets/curation.py has a curated table {declared.name!r} already",
                    "give this one another `name`.",
                )
            tables[declared.name] = declared
    return tables


def declared_table(source: Source, raw: str) -> CuratedTable:
    """The curated table that a source declares for its raw table `raw`. Raises ConfigError."""
    table = source.tables[raw]
    if table.curated is None:
        raise ValueError(f"{source.name}.{raw} declares no curated table")
    _check(f"sources/{source.name}.yaml", f"tables.{raw}.curated", table)
    inputs = (("raw", raw),)
    lineage = {name: _roots(column.expression or sql_name(name)) for name, column in table.curated_columns.items()}
    return CuratedTable(
        name=table.curated.name or raw,
        description=table.curated.description or table.description,
        owner=source.owner,
        curate=partial(curate_declared, table=table),
        columns=_curated_types(table),
        contract=partial(contracts.declared, table),
        partitioned_inputs=inputs if table.is_partitioned else (),
        whole_inputs=() if table.is_partitioned else inputs,
        maximum_quarantined_share=table.curated.maximum_quarantined_share,
        maximum_scale_change=table.curated.maximum_scale_change,
        lineage=lineage | ({EVENT_DAY: table.event_day} if table.is_partitioned else {}),
    )


def _check(file: str, field: str, table: SourceTable) -> None:
    raw = {**{name: POLARS_TYPES[kind] for name, kind in table.columns.items()}, **_day(table)}
    for name, column in table.curated_columns.items():
        expression = column.expression or sql_name(name)
        given = row_type(file, f"{field}.columns.{name}.expression", expression, raw)
        if not can_become(given, column.type):
            hint = "write an expression that gives that type"
            hint += ", with its time zone." if column.type == "timestamp" else "."
            raise ConfigError(
                file, f"{field}.columns.{name}.type", f"values of {given} do not become {column.type}", hint
            )
    for name, condition in (table.curated.checks if table.curated else {}).items():
        given = row_type(file, f"{field}.checks.{name}", condition, _curated_types(table))
        if given != pl.Boolean:
            raise ConfigError(
                file, f"{field}.checks.{name}", f"{condition!r} is no condition: it gives {given}", "compare something."
            )


def _day(table: SourceTable) -> Columns:
    return {EVENT_DAY: pl.Date()} if table.is_partitioned else {}


def _curated_types(table: SourceTable) -> dict[str, pl.DataType]:
    columns = {name: POLARS_TYPES[column.type] for name, column in table.curated_columns.items()}
    return {**_day(table), **columns}


def _roots(expression: str) -> tuple[str, ...]:
    return tuple(sorted(set(parse(expression).meta.root_names())))


def _written_for(project: Project, written: Mapping[str, CuratedTable]) -> dict[str, CuratedTable]:
    raw = {table: source for source in project.sources.values() for table in source.tables}
    kept = {name: table for name, table in written.items() if any(needed in raw for needed in _raw_inputs(table))}
    for table in kept.values():
        for layer, name in table.inputs:
            if name not in (raw if layer == "raw" else kept):
                _refuse(raw, table, f"{layer}/{name}, which no source brings")
        for (layer, name), column in (origin for made in table.columns for origin in table.column_inputs(made)):
            if layer == "raw" and column not in raw[name].tables[name].columns:
                _refuse(raw, table, f"its column {column!r}, which is not declared")
    return kept


def _refuse(sources: Mapping[str, Source], table: CuratedTable, missing: str) -> None:
    present = next(name for name in _raw_inputs(table) if name in sources)
    raise ConfigError(
        f"sources/{sources[present].name}.yaml",
        f"tables.{present}",
        f"mlway_assets/curation.py makes {table.name!r} of this table and of {missing}",
        f"declare it, give this table another name, or take {table.name!r} out of mlway_assets/curation.py.",
    )


def _raw_inputs(table: CuratedTable) -> Iterator[str]:
    return (name for layer, name in table.inputs if layer == "raw")
