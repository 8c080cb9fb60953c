"""Check expressions from configuration before anything runs: that it parses, knows its columns, and sees one row."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import polars as pl

from configs.errors import ConfigError
from configs.features import Expression
from feature_repo.expressions import ExpressionError, parse

# What in a parsed expression looks at other rows than the one in hand, as Polars calls it.
_OF_MANY_ROWS = frozenset({
    "Agg", "BottomK", "Correlation", "CumCount", "CumMax", "CumMin", "CumProd", "CumSum", "Diff", "DropNulls",
    "Explode", "FillNullWithStrategy", "Filter", "Gather", "Len", "NullCount", "Over", "Quantile", "Rank", "Rolling",
    "Shift", "Slice", "Sort", "SortBy", "SubPlan", "TopK", "Unique",
})  # fmt: skip
# Names, constants, and functions within one value, such as the slice of a text.
_WITHIN_A_ROW = frozenset({"Column", "Literal", "ListExpr", "StringExpr", "StructExpr", "TemporalExpr"})


def check_names(file: str, field: str, expression: Expression, columns: Collection[str]) -> None:
    """Raises ConfigError unless the expression parses and uses these columns only."""
    if unknown := sorted(set(_parse(file, field, expression).meta.root_names()) - set(columns)):
        known = ", ".join(sorted(columns))
        raise ConfigError(file, field, f"{', '.join(unknown)} is not among the columns {known}.", "mend the spelling.")


def row_type(file: str, field: str, expression: Expression, columns: Mapping[str, pl.DataType]) -> pl.DataType:
    """The type of the expression's values over rows of these columns.

    Raises ConfigError when it does not parse, knows no such column, or looks at more than one row: what a row becomes
    would then depend on which others are in the same run.
    """
    check_names(file, field, expression, columns)
    parsed = _parse(file, field, expression)
    if found := sorted(_OF_MANY_ROWS & set(_words(json.loads(parsed.meta.serialize(format="json"))))):
        problem = f"{expression!r} looks at more than one row ({', '.join(found)})."
        raise ConfigError(file, field, problem, "compute over rows in a feature file: `kind: windowed`.")
    try:
        return pl.LazyFrame(schema=dict(columns)).select(parsed.alias("value")).collect_schema()["value"]
    except pl.exceptions.PolarsError as error:
        problem = f"{expression!r} cannot be computed: {str(error).splitlines()[0]}"
        raise ConfigError(file, field, problem, "mend the expression, or the types of the columns.") from error


def _parse(file: str, field: str, expression: Expression) -> pl.Expr:
    try:
        return parse(expression)
    except ExpressionError as error:
        problem, _, hint = str(error).partition("\nHint: ")
        raise ConfigError(file, field, problem, hint) from error


def _words(node: Any) -> Iterator[str]:
    """What the parsed expression is built from, down to what stays within one row."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _words(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield key
            if key not in _WITHIN_A_ROW:
                yield from _words(value)
