"""The bytes of the values in Redis: Feast's own messages, encoded here without Feast.

`feast.types.Value` for a feature, `google.protobuf.Timestamp` for the moment of a view's values. What we append to a
timestamp, and read, is in online_rows.py.
"""

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

_DOUBLE_TAG = 0x29
_DOUBLES = np.dtype([("tag", "u1"), ("value", "<f8")])
_ORIGIN = struct.Struct("<B8sBqBq")
ORIGIN_SIZE = _ORIGIN.size
"""Bytes of an origin; a google.protobuf.Timestamp without one has 17 at most."""


def encode_timestamp(microseconds: int, definition: bytes, as_of: int, row: bytes = b"") -> bytes:
    """A google.protobuf.Timestamp with fields that its readers skip: a row, and its origin.

    The origin is the definition, the as-of moment and the microseconds; it stands at the end and has a fixed length, so
    that nobody of ours decodes varints.
    """
    seconds, fraction = divmod(microseconds, 1_000_000)
    message = b"\x08" + encode_varint(seconds) if seconds else b""
    if fraction:
        message += b"\x10" + encode_varint(fraction * 1_000)
    if row:
        message += b"\x62" + encode_varint(len(row)) + row
    return message + _ORIGIN.pack(0x69, definition, 0x71, as_of, 0x79, microseconds)


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
    return b"\x20" + encode_varint(value)


def _encode_string(value: str) -> bytes:
    text = value.encode()
    return b"\x12" + encode_varint(len(text)) + text


def _encode_bool(value: bool) -> bytes:
    return b"\x38\x01" if value else b"\x38\x00"


_ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "int64": _encode_int,
    "string": _encode_string,
    "boolean": _encode_bool,
}


def encode_varint(number: int) -> bytes:
    """A number as protocol buffers write it."""
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
