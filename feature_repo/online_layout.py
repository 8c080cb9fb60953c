"""The bytes of the online store, known here and nowhere else. Needs no Feast.

Entity keys (serialization version 3), `feast.types.Value` messages, Redis keys and fields are Feast's own, so that
Feast reads what we write; property tests hold each against Feast's encoder. Ours, where Feast ignores it: an event
timestamp's microseconds, and what its value was written under. Who writes and reads: online_sqlite.py,
online_redis.py, serving/.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import mmh3
import numpy as np
import polars as pl

from configs.errors import MlwayError
from configs.features import TableFeatures

FEAST_PROJECT = "mlway"
NEVER = -(1 << 63)
"""As-of moment, in microseconds, of a value that was pushed and not materialized."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STRING, _INT64 = 2, 4
"""Feast's ValueType numbers."""
_BOOL_TAG, _DOUBLE_TAG, _INT64_TAG, _STRING_TAG = 0x38, 0x29, 0x20, 0x12
_DOUBLE = struct.Struct("<Bd")
_DOUBLES = np.dtype([("tag", "u1"), ("value", "<f8")])
_FEW = 8
"""Below this many values a loop is faster than numpy."""
_LONGEST_TIMESTAMP = 17
"""Bytes of the longest google.protobuf.Timestamp; ours are longer by what we append."""
_ORIGIN = struct.Struct("<B8sBqBq")


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
    text = group.model_dump_json(exclude={"owner", "description"})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
        parts = [_key_parts(name, kind, columns[name]) for name, kind in self._kinds.items()]
        prefix = self.prefix
        if len(parts) == 1:
            return [None if part is None else prefix + part for part in parts[0]]
        return [None if None in row else prefix + b"".join(row) for row in zip(*parts, strict=True)]


def _key_parts(name: str, kind: str, values: Iterable[Any]) -> list[bytes | None]:
    pack = struct.pack
    try:
        if kind == "string":
            texts = (None if value is None else value.encode() for value in values)
            return [None if text is None else pack("<II", _STRING, len(text)) + text for text in texts]
        return [None if value is None else pack("<IIq", _INT64, 8, value) for value in values]
    except (AttributeError, UnicodeError, struct.error) as error:
        raise OnlineStoreError(
            f"A value of the join key {name!r} is no {kind}: {error}.\nHint: convert it before it is looked up."
        ) from error


def redis_key(entity_key: bytes) -> bytes:
    """The hash that holds all views of an entity."""
    return entity_key + FEAST_PROJECT.encode()


def redis_field(view: str, feature: str) -> bytes:
    """The field of a hash that holds a feature's Value."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def redis_timestamp_field(view: str) -> bytes:
    """The field of a hash that holds a view's timestamp message."""
    return f"_ts:{view}".encode()


SQLITE_KEY, SQLITE_TIMESTAMP, SQLITE_SECOND = "_entity_key", "_event_timestamp", "_event_second"
SQLITE_DEFINITION, SQLITE_AS_OF = "_definition", "_as_of"


def sqlite_table(view: str) -> str:
    """The quoted table that holds a row for each entity and a column for each feature.

    A group's name starts with a letter, so this is never the name of another group's Feast table.
    """
    return quoted(f"{FEAST_PROJECT}__{view}")


def sqlite_feast_table(view: str) -> str:
    """The quoted SQL view that shows it in Feast's layout, a row for each entity and feature."""
    return quoted(f"{FEAST_PROJECT}_{view}")


def quoted(identifier: str) -> str:
    """An SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def encode_timestamp(microseconds: int, definition: bytes, as_of: int) -> bytes:
    """A google.protobuf.Timestamp with three fields that its readers skip: definition, as-of moment, microseconds.

    They stand at the end and have fixed lengths, so that nobody of ours decodes varints.
    """
    seconds, fraction = divmod(microseconds, 1_000_000)
    message = b"\x08" + _varint(seconds) if seconds else b""
    if fraction:
        message += b"\x10" + _varint(fraction * 1_000)
    return message + _ORIGIN.pack(0x69, definition, 0x71, as_of, 0x79, microseconds)


def decode_timestamp(message: bytes) -> int:
    """Microseconds since 1970 of a timestamp message, ours or Feast's."""
    if len(message) > _LONGEST_TIMESTAMP:
        return int.from_bytes(message[-8:], "little", signed=True)
    seconds, nanoseconds, position = 0, 0, 0
    while position < len(message):
        tag = message[position]
        number, position = _read_varint(message, position + 1)
        if tag == 0x08:
            seconds = _signed(number)
        else:
            nanoseconds = number
    return seconds * 1_000_000 + nanoseconds // 1_000


def encode_values(values: pl.Series, kind: str) -> list[bytes]:
    """A Value message for each value; a null's is empty."""
    if kind == "float64":
        messages = np.empty(len(values), _DOUBLES)
        messages["tag"], messages["value"] = _DOUBLE_TAG, values.fill_null(0.0).to_numpy()
        encoded: list[bytes] = messages.view("V9").tolist()
        for row in values.is_null().arg_true():
            encoded[row] = b""
        return encoded
    encode = _ENCODERS[kind]
    return [b"" if value is None else encode(value) for value in values.to_list()]


@lru_cache(65_536)
def _encode_int(value: int) -> bytes:
    return b"\x20" + _varint(value)


def _encode_string(value: str) -> bytes:
    text = value.encode()
    return b"\x12" + _varint(len(text)) + text


def _encode_bool(value: bool) -> bytes:
    return b"\x38\x01" if value else b"\x38\x00"


_ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "int64": _encode_int,
    "string": _encode_string,
    "boolean": _encode_bool,
}
Decoder = Callable[[Sequence[bytes | None]], list[Any]]


def column_decoder(kind: str) -> Decoder:
    """A function from Value messages to values of the declared type: None for an empty message and for none at all.

    It may be called from several threads. It raises OnlineStoreError for a message of another type.
    """
    if kind == "float64":
        return _decode_doubles
    known = _Decoded(kind)
    return lambda messages: list(map(known.__getitem__, messages))


class _Decoded(dict[bytes | None, Any]):
    """Messages that were decoded lately: features repeat, and looking one up is many times faster than decoding it."""

    _MOST, _LONGEST = 32_768, 64

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._tag = {"int64": _INT64_TAG, "string": _STRING_TAG, "boolean": _BOOL_TAG}[kind]

    def __missing__(self, message: bytes | None) -> Any:
        value = _decode(message, self._tag) if message else None
        if message is None or len(message) <= self._LONGEST:
            if len(self) >= self._MOST:
                self.clear()
            self[message] = value
        return value


def _decode_doubles(messages: Sequence[bytes | None]) -> list[Any]:
    count = len(messages)
    if count >= _FEW and None not in messages:
        data = b"".join(messages)  # type: ignore[arg-type]
        # Only nine bytes a message, each with the tag at its first, are as many doubles.
        if len(data) == 9 * count and data[::9].count(_DOUBLE_TAG) == count:
            decoded: list[Any] = np.frombuffer(data, _DOUBLES)["value"].tolist()
            return decoded
    unpack = _DOUBLE.unpack
    try:
        pairs = [unpack(message) if message else (_DOUBLE_TAG, None) for message in messages]
    except struct.error:
        pairs = [(0, None)]
    if any(tag != _DOUBLE_TAG for tag, _ in pairs):
        raise _unexpected(_DOUBLE_TAG)
    return [value for _, value in pairs]


def _decode(message: bytes, tag: int) -> int | str | bool:
    if message[0] != tag:
        raise _unexpected(tag)
    number, position = _read_varint(message, 1)
    if tag == _STRING_TAG:
        return message[position : position + number].decode()
    return _signed(number) if tag == _INT64_TAG else number != 0


def _unexpected(tag: int) -> OnlineStoreError:
    declared = {_BOOL_TAG: "boolean", _DOUBLE_TAG: "float64", _INT64_TAG: "int64", _STRING_TAG: "string"}[tag]
    return OnlineStoreError(
        f"The online store holds something else for a feature that is declared {declared}.\n"
        "Hint: run `mlway materialize`."
    )


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
