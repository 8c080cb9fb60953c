"""A raw table to the curated one that its source file declares.

What a declared table cannot say, such as a join of two raw tables, is a function beside this one.
"""

from collections.abc import Iterator

import polars as pl

from configs.errors import MlwayError
from configs.sources import EVENT_DAY, CuratedColumn, SourceTable
from feature_repo.expressions import parse
from mlway_assets.compute.conversion import convert
from mlway_assets.compute.quarantine import COPY, Curated, first_reason, split_by_reason

CONFLICT = "another row has the same key and other values"


class ExpressionError(MlwayError):
    """A declared expression fails on a value."""

    def __init__(self, column: str, expression: str, error: Exception) -> None:
        super().__init__(
            f"The curated column {column!r} cannot be computed: {expression!r} fails: {str(error).splitlines()[0]}\n"
            "Hint: leave the conversion to the column's `type`, which quarantines the rows that do not read, "
            "or use TRY_CAST, which makes them null."
        )


def curate_declared(raw: pl.DataFrame, table: SourceTable) -> Curated:
    """One row per key. Raises ExpressionError.

    Rows that break a rule by themselves leave first; only those that keep them all can be another's copy or conflict.
    """
    days = [EVENT_DAY] if table.is_partitioned else []
    given = [_evaluate(raw, name, column) for name, column in table.curated_columns.items()]
    read = [convert(values, column.type) for values, column in zip(given, table.curated_columns.values(), strict=True)]
    rows = raw.select(days).with_columns(read) if days else pl.DataFrame(read)
    judged = rows.with_columns(
        (values.is_not_null() & typed.is_null()).alias(_unread(values.name))
        for values, typed in zip(given, read, strict=True)
    )
    reason = judged.select(first_reason(dict(_rules(table)))).to_series()
    curated = split_by_reason(rows, raw, reason)
    key = [*days, *(table.curated.key if table.curated else ())]
    return _without_conflicts(_without_copies(curated), key)


def sql_name(column: str) -> str:
    """A column's name in SQL."""
    return '"' + column.replace('"', '""') + '"'


def _evaluate(raw: pl.DataFrame, name: str, column: CuratedColumn) -> pl.Series:
    expression = column.expression or sql_name(name)
    try:
        # Beside the raw columns a constant fills every row.
        return raw.with_columns(parse(expression).alias(name))[name]
    except pl.exceptions.PolarsError as error:
        raise ExpressionError(name, expression, error) from error


def _unread(column: str) -> str:
    return f"\0{column}"


def _rules(table: SourceTable) -> Iterator[tuple[str, pl.Expr]]:
    """Reason to the condition that breaks a rule."""
    for name, column in table.curated_columns.items():
        yield f"{name} does not read as {column.type}", pl.col(_unread(name))
    for name in table.required_columns:
        yield f"{name} is missing", pl.col(name).is_null()
    for name, condition in (table.curated.checks if table.curated else {}).items():
        yield f"{name} does not hold: {condition}", ~parse(condition)


def _without_copies(curated: Curated) -> Curated:
    is_copy = ~curated.rows.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    return curated.without(dict.fromkeys(is_copy.arg_true().to_list(), COPY))


def _without_conflicts(curated: Curated, key: list[str]) -> Curated:
    is_conflict = curated.rows.select(pl.struct(key).is_duplicated()).to_series()
    return curated.without(dict.fromkeys(is_conflict.arg_true().to_list(), CONFLICT))
