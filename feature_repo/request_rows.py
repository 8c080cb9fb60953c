"""Request features of a few rows of Python values: the same as `request_features` gives for a frame of them, sooner.

What scalar_expressions.py does not understand, or declines, goes through a frame.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import polars as pl

from configs.features import RequestFeatures
from feature_repo.column_types import POLARS_TYPES
from feature_repo.exact_division import tree_of
from feature_repo.expressions import parse_for_one_row
from feature_repo.online_layout import epoch_microseconds
from feature_repo.request_features import request_features
from feature_repo.scalar_expressions import (
    DeclinedValueError,
    Evaluate,
    Kind,
    UnsupportedExpressionError,
    compile_rows,
)

_KINDS: Mapping[str, Kind] = {
    "int64": "whole",
    "float64": "real",
    "boolean": "flag",
    "string": "text",
    "timestamp": "moment",
}
_CASTS = {"int64": "Int64", "float64": "Float64", "boolean": "Boolean", "string": "String"}
_MOST_ROWS = 100
"""A frame of more costs less than they do one by one."""
_QUARTER = 900_000_000
"""Microseconds in which no offset from UTC changes, since 1972."""
_FIRST_MOMENT = epoch_microseconds(datetime(1972, 1, 1, tzinfo=UTC))


class RequestRows:
    """Computes one group's features. `types` are those of its fields and of the features that it uses."""

    def __init__(self, group: RequestFeatures, types: Mapping[str, str]) -> None:
        self._group = group
        self._schema = {name: POLARS_TYPES[kind] for name, kind in types.items()}
        self._moments = [name for name, kind in types.items() if kind == "timestamp"]
        self._zones = [(name, time.of, time.time_zone) for name, time in group.local_times.items()]
        kinds = {name: _KINDS[kind] for name, kind in types.items()}
        self._evaluate = _compile(group, kinds | dict.fromkeys(group.local_times, "moment"))

    def values(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The group's features of each row; `columns` hold at least what it uses. Moments are in UTC."""
        inputs = {name: columns[name] for name in self._schema}
        count = len(next(iter(inputs.values()), ()))
        if self._evaluate is not None and 0 < count <= _MOST_ROWS:
            try:
                return self._one_by_one(self._evaluate, inputs)
            except DeclinedValueError:
                pass
        frame = pl.DataFrame([pl.Series(name, inputs[name], dtype=kind) for name, kind in self._schema.items()])
        return {column.name: column.to_list() for column in request_features(self._group, frame).iter_columns()}

    @property
    def is_compiled(self) -> bool:
        """Whether the rows need no frame, but for values that are declined."""
        return self._evaluate is not None

    def _one_by_one(self, evaluate: Evaluate, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        columns = dict(inputs)
        for name in self._moments:
            columns[name] = [None if moment is None else epoch_microseconds(moment) for moment in columns[name]]
        for name, of, zone in self._zones:
            columns[name] = [None if moment is None else _local(moment, zone) for moment in columns[of]]
        rows = map(evaluate, *columns.values())
        return {name: list(values) for name, values in zip(self._group.features, zip(*rows, strict=True), strict=True)}


def _compile(group: RequestFeatures, kinds: Mapping[str, Kind]) -> Evaluate | None:
    """The evaluation of all features, in order; None if one of them needs Polars."""
    declared = group.features.values()
    try:
        return compile_rows(
            [(tree_of(parse_for_one_row(each.expression)), _CASTS[each.type]) for each in declared], kinds
        )
    except UnsupportedExpressionError:
        return None


def _local(moment: int, zone: str) -> int:
    """A moment's local time, by the time zones that Polars knows: there is no second opinion on them."""
    if moment < _FIRST_MOMENT:
        raise DeclinedValueError
    return moment + _offset(moment // _QUARTER, zone)


@lru_cache(65_536)
def _offset(quarter: int, zone: str) -> int:
    moment = quarter * _QUARTER
    utc = pl.Series([moment]).cast(pl.Datetime("us", "UTC"))
    local: int = utc.dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.epoch("us").item()
    return local - moment
