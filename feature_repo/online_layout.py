"""The names of the online stores' parts: keys, fields, tables and columns, known here and nowhere else. Needs no Feast.

Redis holds Feast's own layout, so that any of Feast's readers can read it: entity keys (serialization version 3), hash
keys and fields. Property tests hold each against Feast's encoder; what a field contains is in online_messages.py.
SQLite holds a typed table for each view.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import mmh3

from configs.errors import MlwayError
from configs.features import TableFeatures
from feature_repo.services import group_digest

FEAST_PROJECT = "mlway"
NEVER = -(1 << 63)
"""As-of moment, in microseconds, of a value that was pushed and not materialized."""
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STRING, _INT64 = 2, 4
"""Feast's ValueType numbers."""


class OnlineStoreError(MlwayError):
    """The online store cannot be read or written, or holds what it should not."""


class OnlineStoreUnavailableError(OnlineStoreError):
    """The online store does not answer in time; the caller may fall back to what it has declared for that."""


@dataclass(frozen=True)
class OnlineView:
    """A feature view as the online store sees it."""

    name: str
    join_keys: Mapping[str, str]
    """Name to type: string or int64."""
    features: Mapping[str, str]
    """Name to type, in order."""
    definition: bytes
    """Eight bytes that change with whatever decides the values."""


def online_view(group: TableFeatures) -> OnlineView:
    """The view of a declared feature group."""
    return OnlineView(group.name, dict(group.join_keys), dict(group.types), bytes.fromhex(definition_of(group)))


def definition_of(group: TableFeatures) -> str:
    """Sixteen hexadecimal digits over everything that decides the group's values; owner and prose do not."""
    return group_digest(group)[:16]


def epoch_microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


class EntityKeys:
    """Encodes entity keys: the number of join keys, their names, sorted, then their values."""

    def __init__(self, join_keys: Mapping[str, str]) -> None:
        self._kinds = dict(sorted(join_keys.items()))
        names = [name.encode() for name in self._kinds]
        self.prefix = struct.pack("<I", len(names)) + b"".join(
            struct.pack("<II", _STRING, len(name)) + name for name in names
        )
        """What the keys of all entities of this kind begin with."""

    def encode(self, columns: Mapping[str, Sequence[Any]]) -> list[bytes | None]:
        """A key for each row of `columns`; None where a join key is null. Raises OnlineStoreError for a wrong type."""
        try:
            parts = [_ENCODE_PARTS[kind](columns[name]) for name, kind in self._kinds.items()]
        except (AttributeError, TypeError, UnicodeError, struct.error) as error:
            raise wrong_join_key(self._kinds, error) from error
        prefix = self.prefix
        if len(parts) == 1:
            return [None if part is None else prefix + part for part in parts[0]]
        return [None if None in row else prefix + b"".join(row) for row in zip(*parts, strict=True)]


def wrong_join_key(kinds: Mapping[str, str], problem: object) -> OnlineStoreError:
    """The error for a value of one of these join keys (name to type) that no entity can have."""
    return OnlineStoreError(
        f"A value of the join key {' or '.join(map(repr, kinds))} has the wrong type: {problem}.\n"
        f"Hint: give {', '.join(f'{name} as {kind}' for name, kind in kinds.items())}."
    )


_MANY = 8
"""So many texts are worth what it takes to begin."""


def _encode_texts(values: Sequence[Any]) -> Sequence[bytes | None]:
    """Texts are encoded all at once where that can be undone: a call for each would take several times as long."""
    if (
        len(values) >= _MANY
        and None not in values
        and len(texts := "\0".join(values).encode().split(b"\0")) == len(values)
    ):
        lengths = set(map(len, texts))
        if len(lengths) == 1:
            start = _TEXT.pack(_STRING, lengths.pop())
            return [start + text for text in texts]
        return [_TEXT.pack(_STRING, len(text)) + text for text in texts]
    return [None if value is None else _TEXT.pack(_STRING, len(text := value.encode())) + text for value in values]


def _encode_numbers(values: Sequence[Any]) -> Sequence[bytes | None]:
    return [None if value is None else _NUMBER.pack(_INT64, 8, value) for value in values]


_TEXT, _NUMBER = struct.Struct("<II"), struct.Struct("<IIq")
_ENCODE_PARTS: Mapping[str, Callable[[Sequence[Any]], Sequence[bytes | None]]] = {
    "string": _encode_texts,
    "int64": _encode_numbers,
}


HASH_SUFFIX = FEAST_PROJECT.encode()
"""What the key of a hash ends in."""


def redis_key(entity_key: bytes) -> bytes:
    """The hash that holds all views of an entity."""
    return entity_key + HASH_SUFFIX


def redis_field(view: str, feature: str) -> bytes:
    """The field of a hash that holds a feature's Value."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def redis_timestamp_field(view: str) -> bytes:
    """The field of a hash that holds a view's timestamp message."""
    return f"_ts:{view}".encode()


SQLITE_TIMESTAMP, SQLITE_DEFINITION, SQLITE_AS_OF = '":event_timestamp"', '":definition"', '":as_of"'
"""Columns beside the join keys and the features: microseconds, eight bytes, microseconds or null."""


def sqlite_table(view: str) -> str:
    """The quoted table of a view: a row for each entity."""
    return quoted(f"{FEAST_PROJECT}_{view}")


def sqlite_columns(view: OnlineView) -> list[str]:
    """The quoted column of each feature. It says the type: a feature that changes it gets another column."""
    return [quoted(f"{name}:{kind}") for name, kind in view.features.items()]


def quoted(identifier: str) -> str:
    """An SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'
