"""The names of the online stores' parts: keys, fields, tables and columns, known here and nowhere else. Needs no Feast.

Redis holds Feast's own layout, so that any of Feast's readers can read it: entity keys (serialization version 3), hash
keys and fields. Property tests hold each against Feast's encoder; what a field contains is in online_messages.py.
SQLite holds a typed table for each view.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    return (moment - _EPOCH) // timedelta(microseconds=1)


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
            if len(self._kinds) == 1:
                [(name, kind)] = self._kinds.items()
                return _ENCODE_KEYS[kind](self.prefix, columns[name])
            parts = [_ENCODE_KEYS[kind](b"", columns[name]) for name, kind in self._kinds.items()]
        except (AttributeError, UnicodeError, struct.error) as error:
            raise wrong_join_key(self._kinds, error) from error
        prefix = self.prefix
        return [None if None in row else prefix + b"".join(row) for row in zip(*parts, strict=True)]


def wrong_join_key(kinds: Mapping[str, str], problem: object) -> OnlineStoreError:
    """The error for a value of one of these join keys (name to type) that no entity can have."""
    return OnlineStoreError(
        f"A value of the join key {' or '.join(map(repr, kinds))} has the wrong type: {problem}.\n"
        f"Hint: give {', '.join(f'{name} as {kind}' for name, kind in kinds.items())}."
    )


def _encode_text_keys(prefix: bytes, values: Iterable[Any]) -> list[bytes | None]:
    prefix += struct.pack("<I", _STRING)
    return [
        None if value is None else b"%b%b%b" % (prefix, _length(len(text := value.encode())), text) for value in values
    ]


def _encode_number_keys(prefix: bytes, values: Iterable[Any]) -> list[bytes | None]:
    prefix += struct.pack("<II", _INT64, 8)
    return [None if value is None else prefix + _pack_number(value) for value in values]


_pack_number, _length = struct.Struct("<q").pack, struct.Struct("<I").pack
_ENCODE_KEYS: Mapping[str, Callable[[bytes, Iterable[Any]], list[bytes | None]]] = {
    "string": _encode_text_keys,
    "int64": _encode_number_keys,
}


def redis_key(entity_key: bytes) -> bytes:
    """The hash that holds all views of an entity."""
    return entity_key + FEAST_PROJECT.encode()


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
