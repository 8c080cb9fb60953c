"""Declared expressions over one row of Python values: what Polars gives, without planning a frame of one row.

Polars' own tree is compiled to closures. Only what is understood to the last bit is: arithmetic, comparisons, logic,
CASE, COALESCE, casts and parts of moments. Anything else is not compiled, and a value outside of the plain zone (whole
numbers beyond 2**53, what is not finite, a division by zero) is declined: then Polars evaluates the row. Property tests
hold this against Polars.
"""

import math
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Literal

Kind = Literal["whole", "small", "real", "flag", "text", "moment", "nanoseconds", "null"]
"""Types of values. small: whole, in fewer than 64 bits, whose arithmetic would overflow. moment: microseconds since
1970, in UTC or, without an offset, in a place's local time. nanoseconds: those of a moment."""
Values = Mapping[str, Any]
Evaluate = Callable[[Values], Any]
Compiled = tuple[Evaluate, Kind]
_Node = Any

_MOST = 2**53
_MICROSECONDS_OF_A_DAY = 86_400_000_000
_FIRST_DAY = date(1970, 1, 1).toordinal()


class UnsupportedExpressionError(Exception):
    """An expression that only Polars evaluates."""


class DeclinedValueError(Exception):
    """A value with which only Polars evaluates the expression."""


def compile_scalar(tree: _Node, kinds: Mapping[str, Kind]) -> Compiled:
    """The expression's evaluation and the kind of its result, given the columns' kinds.

    Raises UnsupportedExpressionError.
    """
    match tree:
        case {"Column": str(name)} if name in kinds:
            return _column(name, kinds[name])
        case {"Literal": literal}:
            return _literal(literal)
        case {"Cast": {"expr": inner, "dtype": {"Literal": kind}}}:
            return cast(compile_scalar(inner, kinds), kind)
        case {"BinaryExpr": {"left": left, "op": str(operator), "right": right}}:
            return _binary(operator, compile_scalar(left, kinds), compile_scalar(right, kinds))
        case {"Ternary": {"predicate": predicate, "truthy": truthy, "falsy": falsy}}:
            return _ternary(*(compile_scalar(each, kinds) for each in (predicate, truthy, falsy)))
        case {"Function": {"input": inputs, "function": function}}:
            return _function(function, [compile_scalar(each, kinds) for each in inputs])
    raise UnsupportedExpressionError


def cast(value: Compiled, kind: str) -> Compiled:
    """The value as a Polars type: Int64, Float64, Boolean or String. Raises UnsupportedExpressionError."""
    evaluate, given = value
    match kind, given:
        case ("Int64", "whole" | "small"):
            return evaluate, "whole"
        case ("Int64", "flag"):
            return _mapped(int, evaluate), "whole"
        case ("Int64", "real"):
            return _mapped(lambda number: _plain_whole(math.trunc(number)), evaluate), "whole"
        case ("Float64", "whole" | "small" | "flag"):
            return _mapped(float, evaluate), "real"
        case ("Float64", "real") | ("Boolean", "flag") | ("String", "text"):
            return value
        case ("Int64", "null"):
            return evaluate, "whole"
    raise UnsupportedExpressionError


def _column(name: str, kind: Kind) -> Compiled:
    def whole(values: Values) -> Any:
        value = values[name]
        return None if value is None else _plain_whole(value)

    def real(values: Values) -> Any:
        value = values[name]
        return None if value is None else _plain_real(value)

    return {"whole": whole, "real": real}.get(kind, lambda values: values[name]), kind


def _literal(literal: _Node) -> Compiled:
    match literal:
        case {"Dyn": {"Int": bytes(digits)}}:
            return _constant(_plain_literal(int.from_bytes(digits, "big", signed=True)), "whole")
        case {"Scalar": {"Int64": int(number)}}:
            return _constant(_plain_literal(number), "whole")
        case {"Dyn": {"Float": float(number)}} | {"Scalar": {"Float64": float(number)}} if math.isfinite(number):
            return _constant(number, "real")
        case {"Scalar": {"Boolean": bool(flag)}}:
            return _constant(flag, "flag")
        case {"Scalar": {"String": str(text)}}:
            return _constant(text, "text")
        case {"Scalar": {"Null": _}}:
            return _constant(None, "null")
    raise UnsupportedExpressionError


def _constant(value: Any, kind: Kind) -> Compiled:
    return (lambda _: value), kind


def _binary(operator: str, left: Compiled, right: Compiled) -> Compiled:
    kinds = {left[1], right[1]}
    match operator:
        case "Plus" | "Minus" | "Multiply" if kinds <= {"whole", "real"}:
            return _arithmetic(operator, left, right)
        case "TrueDivide" if kinds <= {"whole", "real"}:
            return _quotient(left, right)
        case "RustDivide" if left[1] == "nanoseconds" and right[1] == "whole":
            return _strict(lambda one, other: one // other, left[0], right[0]), "whole"
        case "RustDivide" if left[1] == "small" and right[1] == "real":
            return _quotient(cast(left, "Float64"), right)
        case "Eq" | "NotEq" | "Lt" | "LtEq" | "Gt" | "GtEq" if kinds <= {"whole", "real"} or kinds == {"text"}:
            return _strict(_COMPARISONS[operator], left[0], right[0]), "flag"
        case "And" | "Or" if kinds == {"flag"}:
            return _logic(operator == "Or", left[0], right[0]), "flag"
    raise UnsupportedExpressionError


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "Eq": lambda one, other: one == other,
    "NotEq": lambda one, other: one != other,
    "Lt": lambda one, other: one < other,
    "LtEq": lambda one, other: one <= other,
    "Gt": lambda one, other: one > other,
    "GtEq": lambda one, other: one >= other,
}
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "Plus": lambda one, other: one + other,
    "Minus": lambda one, other: one - other,
    "Multiply": lambda one, other: one * other,
}


def _arithmetic(operator: str, left: Compiled, right: Compiled) -> Compiled:
    kind: Kind = "whole" if left[1] == right[1] == "whole" else "real"
    check: Callable[[Any], Any] = _plain_whole if kind == "whole" else _plain_real
    compute = _ARITHMETIC[operator]
    return _strict(lambda one, other: check(compute(one, other)), left[0], right[0]), kind


def _quotient(left: Compiled, right: Compiled) -> Compiled:
    def divide(one: Any, other: Any) -> float:
        if not other:
            raise DeclinedValueError
        return _plain_real(float(one) / float(other))

    return _strict(divide, left[0], right[0]), "real"


def _logic(is_or: bool, left: Evaluate, right: Evaluate) -> Evaluate:
    """Three-valued: what is unknown decides only where the other does not."""

    def evaluate(values: Values) -> Any:
        one, other = left(values), right(values)
        if one is is_or or other is is_or:
            return is_or
        return None if one is None or other is None else not is_or

    return evaluate


def _ternary(predicate: Compiled, truthy: Compiled, falsy: Compiled) -> Compiled:
    if predicate[1] != "flag":
        raise UnsupportedExpressionError
    condition = predicate[0]
    (one, other), kind = _alike([truthy, falsy])
    return (lambda values: one(values) if condition(values) else other(values)), kind


def _function(function: _Node, inputs: list[Compiled]) -> Compiled:  # noqa: PLR0911 - a table of what is understood
    match function, inputs:
        case {"Sql": {"Binary": "Mul"}}, [left, right]:
            return _binary("Multiply", left, right)
        case {"Sql": {"Binary": "Div"}}, [left, right]:
            return _binary("TrueDivide", left, right)
        case "Coalesce", _:
            return _coalesce(inputs)
        case "Abs", [(evaluate, "whole" | "real" as kind)]:
            return _mapped(abs, evaluate), kind
        case {"Boolean": "IsNull"}, [(evaluate, _)]:
            return (lambda values: evaluate(values) is None), "flag"
        case {"Boolean": "IsNotNull"}, [(evaluate, _)]:
            return (lambda values: evaluate(values) is not None), "flag"
        case {"Boolean": "Not"}, [(evaluate, "flag")]:
            return _mapped(lambda flag: not flag, evaluate), "flag"
        case {"TemporalExpr": {"TimeStamp": "Nanoseconds"}}, [(evaluate, "moment")]:
            return _mapped(_nanoseconds, evaluate), "nanoseconds"
        case {"TemporalExpr": str(part)}, [(evaluate, "moment")] if part in _PARTS:
            return _mapped(_PARTS[part], evaluate), "small"
    raise UnsupportedExpressionError


def _coalesce(inputs: list[Compiled]) -> Compiled:
    evaluations, kind = _alike(inputs)

    def evaluate(values: Values) -> Any:
        for each in evaluations:
            value = each(values)
            if value is not None:
                return value
        return None

    return evaluate, kind


def _alike(values: list[Compiled]) -> tuple[list[Evaluate], Kind]:
    """The evaluations as one kind."""
    kinds = {kind for _, kind in values} - {"null"}
    if kinds == {"whole", "real"}:
        return [
            evaluate if kind == "null" else cast((evaluate, kind), "Float64")[0] for evaluate, kind in values
        ], "real"
    if len(kinds) == 1 and kinds <= {"whole", "real", "flag", "text"}:
        return [evaluate for evaluate, _ in values], kinds.pop()
    raise UnsupportedExpressionError


def _nanoseconds(moment: int) -> int:
    if moment < 0:  # before 1970 whole seconds are cut off towards zero
        raise DeclinedValueError
    return moment * 1_000


def _day_of(moment: int) -> date:
    return date.fromordinal(moment // _MICROSECONDS_OF_A_DAY + _FIRST_DAY)


_PARTS: Mapping[str, Callable[[int], int]] = {
    "Year": lambda moment: _day_of(moment).year,
    "Month": lambda moment: _day_of(moment).month,
    "Day": lambda moment: _day_of(moment).day,
    "WeekDay": lambda moment: (moment // _MICROSECONDS_OF_A_DAY + 3) % 7 + 1,
    "Hour": lambda moment: moment // 3_600_000_000 % 24,
    "Minute": lambda moment: moment // 60_000_000 % 60,
    "Second": lambda moment: moment // 1_000_000 % 60,
    "Nanosecond": lambda moment: moment % 1_000_000 * 1_000,
}


def _mapped(function: Callable[[Any], Any], evaluate: Evaluate) -> Evaluate:
    def mapped(values: Values) -> Any:
        value = evaluate(values)
        return None if value is None else function(value)

    return mapped


def _strict(function: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    """Null where either is."""

    def evaluate(values: Values) -> Any:
        one = left(values)
        if one is None:
            return None
        other = right(values)
        return None if other is None else function(one, other)

    return evaluate


def _plain_whole(number: int) -> int:
    if -_MOST <= number <= _MOST:
        return number
    raise DeclinedValueError


def _plain_real(number: float) -> float:
    if number - number == 0.0:
        return number
    raise DeclinedValueError


def _plain_literal(number: int) -> int:
    if -_MOST <= number <= _MOST:
        return number
    raise UnsupportedExpressionError
