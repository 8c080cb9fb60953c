"""Declared expressions over one row of Python values: what Polars gives, without planning a frame of one row.

Polars' own tree is written down as a Python function. Only what is understood to the last bit is: arithmetic,
comparisons, logic, CASE, COALESCE, casts and parts of moments. Anything else is not compiled, and a value outside of
the plain zone (whole numbers beyond 2**53, what is not finite, a division by zero) is declined: then Polars evaluates
the row. Property tests hold this against Polars.

The function's text holds names and operators of ours, numbers, and texts by `repr`: nothing of a declaration is code.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import count
from typing import Any, Literal, NamedTuple

Kind = Literal["whole", "small", "real", "flag", "text", "moment", "nanoseconds", "null"]
"""Types of values. small: whole, in fewer than 64 bits, whose arithmetic would overflow. moment: microseconds since
1970, in UTC or, without an offset, in a place's local time. nanoseconds: those of a moment."""
Evaluate = Callable[..., tuple[Any, ...]]
"""From a row's values, in the order of the columns, to the value of each expression. Raises DeclinedValueError."""
_Node = Any

_MOST = 2**53
_MICROSECONDS_OF_A_DAY = 86_400_000_000
_FIRST_DAY = date(1970, 1, 1).toordinal()
_COMPARISONS = {"Eq": "==", "NotEq": "!=", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
_ARITHMETIC = {"Plus": "+", "Minus": "-", "Multiply": "*"}
_PARTS = {
    "Year": "day_of({0}).year",
    "Month": "day_of({0}).month",
    "Day": "day_of({0}).day",
    "WeekDay": f"({{0}} // {_MICROSECONDS_OF_A_DAY} + 3) % 7 + 1",
    "Hour": "{0} // 3600000000 % 24",
    "Minute": "{0} // 60000000 % 60",
    "Second": "{0} // 1000000 % 60",
    "Nanosecond": "{0} % 1000000 * 1000",
}


class UnsupportedExpressionError(Exception):
    """An expression that only Polars evaluates."""


class DeclinedValueError(Exception):
    """A value with which only Polars evaluates the expression."""


class _Value(NamedTuple):
    """A subexpression: its text, what it evaluates to, and whether that may be null."""

    text: str
    kind: Kind
    may_be_null: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether evaluating it twice costs nothing."""
        return self.text.isidentifier()


def compile_rows(trees: Sequence[tuple[_Node, str]], kinds: Mapping[str, Kind]) -> Evaluate:
    """One function for all expressions, each a tree and the Polars type that its values are to have.

    Types are Int64, Float64, Boolean and String. Raises UnsupportedExpressionError.
    """
    compiler = _Compiler(kinds)
    results = [compiler.cast(compiler.compile(tree), kind).text for tree, kind in trees]
    text = "\n ".join(
        [
            f"def evaluate({', '.join(compiler.columns.values())}):",
            *compiler.guards(),
            f"return ({', '.join(results)},)",
        ]
    )
    names: dict[str, Any] = {"declined": _declined, "divided": _divided, "day_of": _day_of, "trunc": math.trunc}
    try:
        exec(compile(text, "<expressions>", "exec"), names)  # noqa: S102 - our own text; see the module
    except (SyntaxError, RecursionError, MemoryError) as error:  # Python limits how deep an expression may nest
        raise UnsupportedExpressionError from error
    evaluate: Evaluate = names["evaluate"]
    return evaluate


class _Compiler:
    """Writes subexpressions down. Each temporary name is bound once, where its value is first needed."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self.columns = {name: f"c{place}" for place, name in enumerate(kinds)}
        self._kinds = kinds
        self._used: dict[str, Kind] = {}
        self._names = (f"t{number}" for number in count())

    def guards(self) -> list[str]:
        """Statements that decline what columns of numbers should not hold."""
        tests = {"whole": f"not {-_MOST} <= {{0}} <= {_MOST}", "real": "{0} - {0} != 0.0"}
        return [
            f"if {name} is not None and ({tests[kind].format(name)}): declined()"
            for name, kind in self._used.items()
            if kind in tests
        ]

    def compile(self, tree: _Node) -> _Value:
        match tree:
            case {"Column": str(name)} if name in self._kinds:
                self._used[self.columns[name]] = self._kinds[name]
                return _Value(self.columns[name], self._kinds[name])
            case {"Literal": literal}:
                return _literal(literal)
            case {"Cast": {"expr": inner, "dtype": {"Literal": kind}}}:
                return self.cast(self.compile(inner), kind)
            case {"BinaryExpr": {"left": left, "op": str(operator), "right": right}}:
                return self._binary(operator, self.compile(left), self.compile(right))
            case {"Ternary": {"predicate": predicate, "truthy": truthy, "falsy": falsy}}:
                return self._ternary(*(self.compile(each) for each in (predicate, truthy, falsy)))
            case {"Function": {"input": inputs, "function": function}}:
                return self._function(function, [self.compile(each) for each in inputs])
        raise UnsupportedExpressionError

    def cast(self, value: _Value, kind: str) -> _Value:
        """The value as a Polars type."""
        match kind, value.kind:
            case ("Int64", "whole" | "small" | "null"):
                return value._replace(kind="whole")
            case ("Int64", "flag"):
                return self._mapped("int({0})", value, "whole")
            case ("Int64", "real"):
                return self._mapped("trunc({0})", value, "whole", self._plain_whole)
            case ("Float64", "whole" | "small" | "flag"):
                return self._mapped("float({0})", value, "real")
            case ("Float64", "real") | ("Boolean", "flag") | ("String", "text"):
                return value
        raise UnsupportedExpressionError

    def _binary(self, operator: str, left: _Value, right: _Value) -> _Value:
        kinds = {left.kind, right.kind}
        match operator:
            case "Plus" | "Minus" | "Multiply" if kinds <= {"whole", "real"}:
                kind: Kind = "whole" if kinds == {"whole"} else "real"
                check = self._plain_whole if kind == "whole" else self._plain_real
                return self._strict(f"{{0}} {_ARITHMETIC[operator]} {{1}}", left, right, kind, check)
            case "TrueDivide" if kinds <= {"whole", "real"}:
                return self._quotient(left, right)
            case "RustDivide" if left.kind == "nanoseconds" and right.kind == "whole":
                return self._strict("{0} // {1}", left, right, "whole")
            case "RustDivide" if left.kind == "small" and right.kind == "real":
                return self._quotient(left, right)
            case "Eq" | "NotEq" | "Lt" | "LtEq" | "Gt" | "GtEq" if kinds <= {"whole", "real"} or kinds == {"text"}:
                return self._strict(f"{{0}} {_COMPARISONS[operator]} {{1}}", left, right, "flag")
            case "And" | "Or" if kinds == {"flag"}:
                return self._logic(operator == "Or", left, right)
        raise UnsupportedExpressionError

    def _quotient(self, left: _Value, right: _Value) -> _Value:
        return self._strict("divided({0}, {1})", left, right, "real", self._plain_real)

    def _logic(self, is_or: bool, left: _Value, right: _Value) -> _Value:
        """Three-valued: what is unknown decides only where the other does not."""
        (bind_left, one), (bind_right, other) = self._bound(left), self._bound(right)
        decisive = f"{bind_left} is {is_or} or {bind_right} is {is_or}"
        text = f"({is_or} if {decisive} else None if {one} is None or {other} is None else {not is_or})"
        return _Value(text, "flag", left.may_be_null or right.may_be_null)

    def _ternary(self, predicate: _Value, truthy: _Value, falsy: _Value) -> _Value:
        if predicate.kind != "flag":
            raise UnsupportedExpressionError
        (one, other), kind = self._alike([truthy, falsy])
        text = f"({one.text} if {predicate.text} else {other.text})"
        return _Value(text, kind, one.may_be_null or other.may_be_null)

    def _function(self, function: _Node, inputs: list[_Value]) -> _Value:  # noqa: PLR0911 - a table of what is understood
        match function, inputs:
            case {"Sql": {"Binary": "Mul"}}, [left, right]:
                return self._binary("Multiply", left, right)
            case {"Sql": {"Binary": "Div"}}, [left, right]:
                return self._binary("TrueDivide", left, right)
            case "Coalesce", _:
                return self._coalesce(inputs)
            case "Abs", [_Value(_, "whole" | "real" as kind) as value]:
                return self._mapped("abs({0})", value, kind)
            case {"Boolean": "IsNull"}, [value]:
                return _Value(f"({value.text} is None)" if value.may_be_null else "False", "flag", may_be_null=False)
            case {"Boolean": "IsNotNull"}, [value]:
                return _Value(f"({value.text} is not None)" if value.may_be_null else "True", "flag", may_be_null=False)
            case {"Boolean": "Not"}, [_Value(_, "flag") as value]:
                return self._mapped("not {0}", value, "flag")
            case {"TemporalExpr": {"TimeStamp": "Nanoseconds"}}, [_Value(_, "moment") as value]:
                # Before 1970 whole seconds would be cut off towards zero.
                return self._mapped("({0} if {0} >= 0 else declined()) * 1000", value, "nanoseconds")
            case {"TemporalExpr": str(part)}, [_Value(_, "moment") as value] if part in _PARTS:
                return self._mapped(_PARTS[part], value, "small")
        raise UnsupportedExpressionError

    def _coalesce(self, inputs: list[_Value]) -> _Value:
        values, kind = self._alike(inputs)
        *others, result = values
        for value in reversed(others):
            bind, name = self._bound(value)
            text = f"({name} if {bind} is not None else {result.text})"
            result = _Value(text, kind, value.may_be_null and result.may_be_null)
        return result

    def _alike(self, values: list[_Value]) -> tuple[list[_Value], Kind]:
        """The values as one kind."""
        kinds = {value.kind for value in values} - {"null"}
        if kinds == {"whole", "real"}:
            return [value if value.kind == "null" else self.cast(value, "Float64") for value in values], "real"
        if len(kinds) == 1 and kinds <= {"whole", "real", "flag", "text"}:
            return values, kinds.pop()
        raise UnsupportedExpressionError

    def _mapped(self, form: str, value: _Value, kind: Kind, check: Callable[[str], str] = "({})".format) -> _Value:
        """Null where the value is."""
        bind, name = self._bound(value)
        text = f"(None if {bind} is None else {check(form.format(name))})"
        return _Value(text, kind, value.may_be_null)

    def _strict(
        self, form: str, left: _Value, right: _Value, kind: Kind, check: Callable[[str], str] = "({})".format
    ) -> _Value:
        """Null where either is."""
        operands, tests = [], []
        for value in (left, right):
            bind, name = self._bound(value)
            if value.may_be_null:
                tests.append(f"{bind} is None")
            operands.append(name if value.may_be_null else value.text)
        text = check(form.format(*operands))
        return _Value(f"(None if {' or '.join(tests)} else {text})" if tests else text, kind, bool(tests))

    def _bound(self, value: _Value) -> tuple[str, str]:
        """The value where it is evaluated, and its name from there on."""
        if value.is_plain:
            return value.text, value.text
        name = next(self._names)
        return f"({name} := {value.text})", name

    def _plain_whole(self, text: str) -> str:
        name = next(self._names)
        return f"({name} if {-_MOST} <= ({name} := {text}) <= {_MOST} else declined())"

    def _plain_real(self, text: str) -> str:
        name = next(self._names)
        return f"({name} if ({name} := {text}) - {name} == 0.0 else declined())"


def _literal(literal: _Node) -> _Value:
    match literal:
        case {"Dyn": {"Int": bytes(digits)}}:
            return _whole_literal(int.from_bytes(digits, "big", signed=True))
        case {"Scalar": {"Int64": int(number)}}:
            return _whole_literal(number)
        case {"Dyn": {"Float": float(number)}} | {"Scalar": {"Float64": float(number)}} if math.isfinite(number):
            return _Value(f"({number!r})", "real", may_be_null=False)
        case {"Scalar": {"Boolean": bool(flag)}}:
            return _Value(f"{flag}", "flag", may_be_null=False)
        case {"Scalar": {"String": str(text)}}:
            return _Value(repr(text), "text", may_be_null=False)
        case {"Scalar": {"Null": _}}:
            return _Value("None", "null")
    raise UnsupportedExpressionError


def _whole_literal(number: int) -> _Value:
    if not -_MOST <= number <= _MOST:
        raise UnsupportedExpressionError
    return _Value(f"({number})", "whole", may_be_null=False)


def _day_of(moment: int) -> date:
    return date.fromordinal(moment // _MICROSECONDS_OF_A_DAY + _FIRST_DAY)


def _divided(one: float, other: float) -> float:
    return float(one) / float(other) if other else _declined()


def _declined() -> Any:
    raise DeclinedValueError
