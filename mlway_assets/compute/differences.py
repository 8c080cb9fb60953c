"""What two ways to the same values give otherwise, bit for bit.

Which ways are held against each other is in mlway_assets/parity.py and mlway_assets/request_parity.py.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from configs.features import FeatureGroup
from feature_repo.column_types import POLARS_TYPES
from mlway_assets.compute.bits import same_bits

_PYTHON_TYPES = {"int64": int, "float64": float, "string": str, "boolean": bool}


@dataclass(frozen=True)
class Difference:
    """One value that another way gives otherwise."""

    path: str
    group: str
    feature: str
    entity: str
    expected: str
    seen: str


Compared = tuple[int, list[Difference]]
"""How many values were compared, and those that differ."""


def differences(
    path: str, group: FeatureGroup, entities: pl.DataFrame, expected: pl.DataFrame, seen: pl.DataFrame
) -> Compared:
    """Hold each column of `seen` against the one of that name in `expected`; `entities` says whose value a row is."""
    found = []
    for name in seen.columns:
        for row in (~same_bits(expected[name], seen[name])).arg_true():
            entity = ", ".join(str(value) for value in entities.row(row))
            values = repr(expected[name][row]), repr(seen[name][row])
            found.append(Difference(path, group.name, name, entity, *values))
    return seen.width * seen.height, found


def typed(values: list[Any], kind: str) -> pl.Series:
    """The values as serving gets them: a value of another type stays one, and so differs."""
    if all(value is None or type(value) is _PYTHON_TYPES[kind] for value in values):
        return pl.Series(values, dtype=POLARS_TYPES[kind])
    return pl.Series([repr(value) for value in values], dtype=pl.Categorical)
