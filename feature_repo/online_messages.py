"""The bytes of the values in Redis: Feast's own messages, encoded and decoded here without Feast.

`feast.types.Value` for a feature, `google.protobuf.Timestamp` for the moment of a view's values. Ours, where Feast's
readers skip it, is what follows a timestamp: its microseconds, and what the values were written under.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from feature_repo.online_layout import OnlineStoreError

_BOOL_TAG, _DOUBLE_TAG, _INT64_TAG, _STRING_TAG = 0x38, 0x29, 0x20, 0x12
_DOUBLE = struct.Struct("<xd")
_NULL = struct.pack("<Bd", _DOUBLE_TAG, float("nan"))
_DOUBLES = np.dtype([("tag", "u1"), ("value", "<f8")])
_FEW = 64
"""So many doubles are unpacked one by one before numpy is faster."""
_ORIGIN = struct.Struct("<B8sBqBq")
"""What we append to a google.protobuf.Timestamp; without it, one has 17 bytes at most."""
_TAIL = struct.Struct("<8s10xq")
"""What a read needs of it: the definition and the microseconds."""


def encode_timestamp(microseconds: int, definition: bytes, as_of: int) -> bytes:
    """A google.protobuf.Timestamp with three fields that its readers skip: definition, as-of moment, microseconds.

    They stand at the end and have fixed lengths, so that nobody of ours decodes varints.
    """
    seconds, fraction = divmod(microseconds, 1_000_000)
    message = b"\x08" + _varint(seconds) if seconds else b""
    if fraction:
        message += b"\x10" + _varint(fraction * 1_000)
    return message + _ORIGIN.pack(0x69, definition, 0x71, as_of, 0x79, microseconds)


def decode_timestamps(messages: Sequence[bytes | None], definition: bytes) -> list[int | None]:
    """Microseconds since 1970 of timestamp messages, ours or Feast's; None for none.

    One of ours that stands for values of another definition counts as none; Feast's does not say.
    """
    if len(messages) == 1:
        return [None if messages[0] is None else _decode_timestamp(messages[0], definition)]
    absent = b"\0" + bytes([definition[0] ^ 1]) + bytes(25)  # of no definition that is asked for
    known = [absent if message is None else message for message in messages] if None in messages else messages
    if min(map(len, known), default=0) >= _ORIGIN.size:  # type: ignore[arg-type]
        tails = b"".join([message[-_TAIL.size :] for message in known])  # type: ignore[index]
        return [moment if written == definition else None for written, moment in _TAIL.iter_unpack(tails)]
    return [None if message is None else _decode_timestamp(message, definition) for message in messages]


def _decode_timestamp(message: bytes, definition: bytes) -> int | None:
    if len(message) >= _ORIGIN.size:
        written, moment = _TAIL.unpack_from(message, len(message) - _TAIL.size)
        return moment if written == definition else None
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
    """A Value message for each value; a null's is empty, and so is that of NaN, as in Feast."""
    if kind == "float64":
        values = values.fill_nan(None)
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


class ValueDecoder:
    """Turns columns of Value messages into values of the declared types. Threads may share it.

    An empty message is None, and so are a missing one and NaN. Raises OnlineStoreError for a message of another type.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self._doubles = [place for place, kind in enumerate(kinds) if kind == "float64"]
        self._others = [(place, _Decoded(kind)) for place, kind in enumerate(kinds) if kind != "float64"]

    def decode(self, columns: Sequence[Sequence[bytes | None]]) -> list[list[Any]]:
        """The columns' values."""
        values: list[list[Any]] = [[]] * len(columns)
        for place, known in self._others:
            values[place] = list(map(known.__getitem__, columns[place]))
        if self._doubles:
            doubles = _decode_doubles([columns[place] for place in self._doubles])
            for place, column in zip(self._doubles, doubles, strict=True):
                values[place] = column
        return values


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


def _decode_doubles(columns: Sequence[Sequence[bytes | None]]) -> list[list[Any]]:
    """Several columns at once: what numpy takes to begin is shared."""
    rows = len(columns[0])
    data = b"".join([message or _NULL for column in columns for message in column])
    # Only nine bytes a message, each with the tag at its first, are as many doubles.
    if len(data) != 9 * rows * len(columns) or data[::9].count(_DOUBLE_TAG) * 9 != len(data):
        raise _unexpected(_DOUBLE_TAG)
    if len(data) <= 9 * _FEW:
        unpacked = [None if value != value else value for (value,) in _DOUBLE.iter_unpack(data)]  # noqa: PLR0124 - NaN
        return [unpacked[place * rows : (place + 1) * rows] for place in range(len(columns))]
    numbers = np.frombuffer(data, _DOUBLES)["value"].reshape(len(columns), rows)
    values: list[list[Any]] = numbers.tolist()
    for column, row in zip(*(each.tolist() for each in np.isnan(numbers).nonzero()), strict=True):
        values[column][row] = None
    return values


def _decode(message: bytes, tag: int) -> int | str | bool:
    if message[0] != tag:
        raise _unexpected(tag)
    number, position = _read_varint(message, 1)
    if tag == _STRING_TAG:
        if position + number != len(message):
            raise _unexpected(tag)
        return message[position:].decode()
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
