"""Read features for request rows from the online store: values with their ages, ttl enforced, what is missing named.

The SQLite layout is Feast's (entity key serialization version 3): one row for each entity and feature. It is read and
decoded here, without Feast, in one query for all views; tests hold it against `FeatureStore.get_online_features`.
"""

import sqlite3
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from configs.errors import MlwayError
from configs.features import TableFeatures, WindowedFeatures
from feature_repo.column_types import POLARS_TYPES

FEAST_PROJECT = "mlway"
_STRING, _INT64 = 2, 4
"""Feast's ValueType numbers."""


class OnlineStoreError(MlwayError):
    """The online store cannot be read."""


@dataclass(frozen=True)
class FeatureFrame:
    """Request rows with their features, and for each row the feature views that had nothing to say."""

    frame: pl.DataFrame
    missing: list[list[str]]


class OnlineFeatures(Protocol):
    """Reads features for request rows."""

    def read(self, entities: pl.DataFrame, as_of: datetime) -> FeatureFrame:
        """`entities` with the features of every view as of a moment. Raises OnlineStoreError."""
        ...


class SqliteOnlineFeatures:
    """The embedded online store: one SQLite file, opened read-only at the first read."""

    def __init__(self, path: str, groups: Sequence[TableFeatures]) -> None:
        self._path = path
        self._groups = groups
        self._connection: sqlite3.Connection | None = None

    def read(self, entities: pl.DataFrame, as_of: datetime) -> FeatureFrame:
        """`entities` with the features of every view; a view's values older than its ttl are missing."""
        keys = [_entity_keys(group, entities) for group in self._groups]
        found = self._fetch(keys)
        missing: list[list[str]] = [[] for _ in range(len(entities))]
        columns: list[pl.Series] = []
        for group, row_keys, values in zip(self._groups, keys, found, strict=True):
            rows = [_alive(values.get(key) if key else None, group, as_of) for key in row_keys]
            empty = _emptied(group)
            for row, value in enumerate(rows):
                if value is None:
                    missing[row].append(group.name)
            columns += [
                pl.Series(
                    name, [_value(value, name, empty.get(name), as_of) for value in rows], dtype=POLARS_TYPES[kind]
                )
                for name, kind in group.types.items()
            ]
        return FeatureFrame(entities.hstack(columns), missing)

    def _fetch(self, keys: list[list[bytes | None]]) -> list[dict[bytes, dict[str, Any]]]:
        """For each view, entity key to its features and, under an empty name, their time in epoch seconds."""
        selects, parameters = [], []
        for number, (group, row_keys) in enumerate(zip(self._groups, keys, strict=True)):
            asked = list({key for key in row_keys if key is not None})
            marks = ",".join("?" * len(asked))
            table = f'"{FEAST_PROJECT}_{group.name}"'
            selects.append(
                f"SELECT {number}, entity_key, feature_name, value, event_ts FROM {table} WHERE entity_key IN ({marks})"
            )
            parameters += asked
        found: list[dict[bytes, dict[str, Any]]] = [{} for _ in self._groups]
        for number, key, name, value, seconds in self._rows(" UNION ALL ".join(selects), parameters):
            entity = found[number].setdefault(key, {"": seconds})
            entity[name] = decode_value(value)
        return found

    def _rows(self, query: str, parameters: list[bytes]) -> list[tuple[Any, ...]]:
        try:
            if self._connection is None:
                address = f"file:{self._path}?mode=ro"
                self._connection = sqlite3.connect(address, uri=True, timeout=5, check_same_thread=False)
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            self._connection = None
            raise OnlineStoreError(
                f"The online store {self._path} cannot be read: {error}.\nHint: run `mlway materialize`."
            ) from error


def _alive(values: dict[str, Any] | None, group: TableFeatures, as_of: datetime) -> dict[str, Any] | None:
    """The values, unless they are past their ttl, or of a moment that has not come yet."""
    if values is None or values[""] > as_of.timestamp():
        return None
    ttl = group.time_to_live.total_seconds()
    return values if not ttl or values[""] >= as_of.timestamp() - ttl else None


def _emptied(group: TableFeatures) -> dict[str, tuple[float, int | None]]:
    """For each windowed feature, the age in seconds at which its window has emptied, and its value then."""
    if not isinstance(group, WindowedFeatures):
        return {}
    return {
        name: (window.total_seconds(), 0 if aggregation.function == "count" else None)
        for name, (aggregation, window) in group.parts.items()
    }


def _value(values: dict[str, Any] | None, name: str, empty: tuple[float, int | None] | None, as_of: datetime) -> Any:
    if values is None:
        return None
    if empty is not None and as_of.timestamp() - values[""] >= empty[0]:
        return empty[1]
    return values.get(name)


def _entity_keys(group: TableFeatures, entities: pl.DataFrame) -> list[bytes | None]:
    columns = entities.select(list(group.join_keys)).iter_rows()
    return [entity_key(group.join_keys, row) for row in columns]


def entity_key(join_keys: Mapping[str, str], values: Sequence[Any]) -> bytes | None:
    """Feast's bytes for an entity: its key names, sorted, then their values. None when a value is null."""
    if any(value is None for value in values):
        return None
    pairs = sorted(zip(join_keys, values, strict=True))
    parts = [struct.pack("<I", len(pairs))]
    for name, _ in pairs:
        text = name.encode()
        parts.append(struct.pack("<II", _STRING, len(text)) + text)
    for _, value in pairs:
        kind, content = (_STRING, value.encode()) if isinstance(value, str) else (_INT64, struct.pack("<q", value))
        parts.append(struct.pack("<II", kind, len(content)) + content)
    return b"".join(parts)


def decode_value(message: bytes) -> Any:
    """A `feast.types.Value` protocol buffer message with an int64, double, string or bool; None when it is empty."""
    if not message:
        return None
    tag = message[0]
    if tag == 0x29:  # double_val = 5, 64-bit
        return struct.unpack_from("<d", message, 1)[0]
    if tag == 0x20:  # int64_val = 4, varint
        number = _varint(message, 1)[0]
        return number - (1 << 64) if number >> 63 else number
    if tag == 0x12:  # string_val = 2, length-delimited
        length, start = _varint(message, 1)
        return message[start : start + length].decode()
    if tag == 0x38:  # bool_val = 7, varint
        return message[1] != 0
    raise OnlineStoreError(
        f"The online store holds a value of an unknown type (tag {tag:#x}).\nHint: run `mlway materialize`."
    )


def _varint(message: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
