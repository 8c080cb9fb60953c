"""Declared expressions as Polars expressions: Polars SQL, or a Python function by its import path."""

import hashlib
import importlib
import inspect
from functools import cache

import polars as pl

from configs.errors import MlwayError
from configs.features import PythonExpression
from feature_repo.exact_division import with_exact_division, with_float_literals


class ExpressionError(MlwayError):
    """A declared expression that cannot be used."""


def parse(expression: str | PythonExpression) -> pl.Expr:
    """The Polars expression. Raises ExpressionError naming what is wrong and the remedy."""
    return _from_sql(expression) if isinstance(expression, str) else _from_python(expression.python)


def parse_for_one_row(expression: str | PythonExpression) -> pl.Expr:
    """The expression for frames of exactly one row, where it gives the bits of `parse` and costs several times less.

    Polars divides one row by a constant as it stands, so nothing has to be spread. See exact_division.py.
    """
    return _sql(expression) if isinstance(expression, str) else _python(expression.python)


def roots(expression: str | PythonExpression) -> list[str]:
    """The columns that it reads, sorted."""
    return sorted(set(parse(expression).meta.root_names()))


def source_digest(path: str) -> str:
    """SHA-256 of the module of a Python function, given by its import path. Raises ExpressionError."""
    _from_python(path)
    module = importlib.import_module(path.partition(":")[0])
    return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()


@cache
def _from_sql(text: str) -> pl.Expr:
    return with_exact_division(_sql(text))


@cache
def _sql(text: str) -> pl.Expr:
    try:
        return with_float_literals(pl.sql_expr(text))
    except pl.exceptions.PolarsError as error:
        raise ExpressionError(f"{text!r} does not parse: {error}.\nHint: write Polars SQL.") from error


@cache
def _from_python(path: str) -> pl.Expr:
    return with_exact_division(_python(path))


@cache
def _python(path: str) -> pl.Expr:
    module_name, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ExpressionError(
            f"{path!r} cannot be imported: {error}.\nHint: the module must be importable from the project's root."
        ) from error
    expression = function() if callable(function) else function
    if not isinstance(expression, pl.Expr):
        raise ExpressionError(
            f"{path!r} gives a {type(expression).__name__}, not a Polars expression.\n"
            "Hint: a function without parameters that returns a pl.Expr."
        )
    return expression
