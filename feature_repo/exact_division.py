"""Make a division give the same bits for one row as for many.

Polars divides by a constant through its reciprocal, which can be one unit in the last place away from the quotient,
except in a frame of one row, where it divides (pola-rs/polars#27753, closed as intended). A single request would get
another value than the training row. A divisor that is a column is always divided by, so constants become columns: by
adding zeros that come from a column, since Polars keeps a repeated constant as one.
"""

import io
import json
from typing import Any

import polars as pl

_OPERATORS = {"TrueDivide", "FloorDivide", "Modulus", "RustDivide"}
_SQL_FUNCTIONS = {"Div", "IntDiv", "Rem"}
_Node = Any
"""A node of Polars' serialized expression: nested dictionaries and lists."""


def with_exact_division(expression: pl.Expr) -> pl.Expr:
    """The expression with every constant divisor spread over the rows."""
    tree = json.loads(expression.meta.serialize(format="json"))
    spread = _rewritten(tree)
    return expression if spread == tree else pl.Expr.deserialize(io.StringIO(json.dumps(spread)), format="json")


def _rewritten(node: _Node) -> _Node:
    if isinstance(node, list):
        return [_rewritten(part) for part in node]
    if not isinstance(node, dict):
        return node
    node = {name: _rewritten(part) for name, part in node.items()}
    binary, function = node.get("BinaryExpr"), node.get("Function")
    if binary and binary["op"] in _OPERATORS:
        binary["right"] = _spread(binary["right"], binary["left"])
    elif function and _sql_function(function) in _SQL_FUNCTIONS:
        dividend, divisor = function["input"]
        function["input"] = [dividend, _spread(divisor, dividend)]
    return node


def _sql_function(function: dict[str, _Node]) -> str | None:
    name = function["function"]
    sql = name.get("Sql") if isinstance(name, dict) else None
    return sql.get("Binary") if isinstance(sql, dict) else None


def _spread(divisor: _Node, dividend: _Node) -> _Node:
    """A constant divisor as a column as long as the dividend's; any other divisor as it is."""
    column = _first_column(dividend)
    if column is None or _first_column(divisor) is not None:
        return divisor
    is_null = {"Function": {"input": [{"Column": column}], "function": {"Boolean": "IsNull"}}}
    flags = {"Cast": {"expr": is_null, "dtype": {"Literal": "Int64"}, "options": "Strict"}}
    zeros = {"BinaryExpr": {"left": flags, "op": "Multiply", "right": {"Literal": {"Dyn": {"Int": 0}}}}}
    return {"BinaryExpr": {"left": zeros, "op": "Plus", "right": divisor}}


def _first_column(node: _Node) -> str | None:
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and isinstance(node.get("Column"), str):
        return str(node["Column"])
    return next((found for part in parts if (found := _first_column(part)) is not None), None)
