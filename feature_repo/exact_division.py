"""Expressions in the shape in which they give the same bits for one row as for many.

Polars divides by a constant through its reciprocal, which can be one unit in the last place away from the quotient,
except in a frame of one row, where it divides (pola-rs/polars#27753, closed as intended). A single request would get
another value than the training row. A divisor that is a column is always divided by, so constants become columns.

SQL's literals with a point are decimals in Polars, whose quotient with a whole number ends after six digits. They
become floats here, as every other number with a fraction is.

An expression is rewritten in Polars' own MessagePack, which keeps every float as it is; JSON does not.
"""

import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgpack
import polars as pl

_OPERATORS = {"TrueDivide", "FloorDivide", "Modulus", "RustDivide"}
_SQL_FUNCTIONS = {"Div", "IntDiv", "Rem"}
_NUMBERS = ("Int", "UInt", "Float", "Decimal")
_Node = Any
"""A node of Polars' serialized expression: nested dictionaries and lists."""


def with_exact_division(expression: pl.Expr) -> pl.Expr:
    """The expression with every constant divisor that is a number spread over the rows."""
    tree = tree_of(expression)
    spread = _with_columns_as_divisors(tree)
    return expression if spread == tree else _expression(spread)


def with_float_literals(expression: pl.Expr) -> pl.Expr:
    """The expression with the nearest float in place of every decimal literal."""
    tree = tree_of(expression)
    floats = _with_floats(tree)
    return expression if floats == tree else _expression(floats)


def tree_of(expression: pl.Expr) -> _Node:
    """Polars' own tree of the expression: nested dictionaries and lists."""
    return msgpack.unpackb(expression.meta.serialize(), strict_map_key=False)


def _expression(tree: _Node) -> pl.Expr:
    return pl.Expr.deserialize(io.BytesIO(msgpack.packb(tree)))


def _with_columns_as_divisors(node: _Node) -> _Node:
    if isinstance(node, list):
        return [_with_columns_as_divisors(part) for part in node]
    if not isinstance(node, dict):
        return node
    node = {name: _with_columns_as_divisors(part) for name, part in node.items()}
    binary, function = node.get("BinaryExpr"), node.get("Function")
    # Functions of binary values are called BinaryExpr too: then it is no dictionary.
    if isinstance(binary, dict) and binary["op"] in _OPERATORS and not _is_of_whole_numbers(binary):
        binary["right"] = _spread(binary["right"], binary["left"])
    elif isinstance(function, dict) and _sql_function(function) in _SQL_FUNCTIONS:
        dividend, divisor = function["input"]
        function["input"] = [dividend, _spread(divisor, dividend)]
    return node


def _sql_function(function: dict[str, _Node]) -> str | None:
    name = function["function"]
    sql = name.get("Sql") if isinstance(name, dict) else None
    return sql.get("Binary") if isinstance(sql, dict) else None


def _spread(divisor: _Node, dividend: _Node) -> _Node:
    """A constant number as a column as long as the dividend's, of the type that it has there; any other as it is."""
    column = next(_values_of("Column", dividend), None)
    literals = list(_values_of("Literal", divisor))
    if column is None or next(_values_of("Column", divisor), None) or not all(map(_is_number, literals)):
        return divisor
    value = _expression(divisor)
    # Ones that come from a column, since Polars keeps a repeated constant as one; Booleans, which leave the type alone.
    ones = (pl.col(column).is_null().cast(pl.Int64) * 0 + 1).cast(pl.Boolean)
    if isinstance(divisor, dict) and "Dyn" in next(_values_of("Literal", divisor), {}):
        # A literal without a type takes the dividend's, as it would beside it; a duration's is that of its number.
        value = pl.when(ones).then(value).otherwise(_expression(dividend).to_physical())
    return tree_of(value * ones)


def _is_of_whole_numbers(division: _Node) -> bool:
    """Whether it is of a moment as a whole number, by one: that division has no rounding to differ in."""
    dividend, divisor = division["left"], division["right"]
    function = dividend["Function"]["function"] if isinstance(dividend, dict) and "Function" in dividend else None
    moment = function.get("TemporalExpr") if isinstance(function, dict) else None
    scalar = divisor["Literal"].get("Scalar") if isinstance(divisor, dict) and "Literal" in divisor else None
    return (
        isinstance(moment, dict)
        and "TimeStamp" in moment
        and isinstance(scalar, dict)
        and next(iter(scalar)).startswith("Int")
    )


def _is_number(literal: _Node) -> bool:
    kinds = literal.get("Dyn") or literal.get("Scalar") if isinstance(literal, dict) else None
    return isinstance(kinds, dict) and all(kind.startswith(_NUMBERS) for kind in kinds)


def _values_of(name: str, node: _Node) -> Iterator[_Node]:
    """What stands under the name, anywhere in the tree."""
    if isinstance(node, dict):
        if name in node:
            yield node[name]
        for part in node.values():
            yield from _values_of(name, part)
    elif isinstance(node, list):
        for part in node:
            yield from _values_of(name, part)


def _with_floats(node: _Node) -> _Node:
    if isinstance(node, list):
        return [_with_floats(part) for part in node]
    if not isinstance(node, dict):
        return node
    scalar = node["Scalar"] if node.keys() == {"Scalar"} else None
    if isinstance(scalar, dict) and scalar.keys() == {"Decimal"}:
        digits, _, scale = scalar["Decimal"]
        whole = int.from_bytes(digits, "big", signed=True)
        return {"Dyn": {"Float": float(Decimal(whole).scaleb(-scale))}}
    return {name: _with_floats(part) for name, part in node.items()}
