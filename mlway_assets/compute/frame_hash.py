"""A hash of a frame's content: the same data give the same hash on any machine, with any version of any library.

Only what is written here is hashed, never a library's own bytes. For each column: its name, its declared type, how
many rows, which are null, and the values: little-endian numbers; lengths and then UTF-8 for text. What a null holds
underneath is not data. Two frames hash the same exactly when they hold the same values under the same names and types:

* Columns are taken by name: their order is not data. The order of rows is: put rows in order first.
* Chunks are not data.
* 0.0 and -0.0 are one number, every NaN is one value (which differs from null), as in `DataFrame.equals`.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from configs.errors import MlwayError

FORMAT = b"mlway-frame-1"
_SLICE_ROWS = 1_000_000
_INTEGERS: dict[type[pl.DataType], str] = {
    pl.Int8: "<i1", pl.Int16: "<i2", pl.Int32: "<i4", pl.Int64: "<i8",
    pl.UInt8: "<u1", pl.UInt16: "<u2", pl.UInt32: "<u4", pl.UInt64: "<u8",
}  # fmt: skip
_FLOATS: dict[type[pl.DataType], str] = {pl.Float32: "<f4", pl.Float64: "<f8"}


class UnhashableColumnError(MlwayError):
    """A column's type has no canonical form."""

    def __init__(self, name: str, kind: pl.DataType) -> None:
        super().__init__(
            f"The column {name!r} is {kind}, which has no canonical form to hash.\n"
            "Hint: make it numbers, text, a boolean, a date or a timestamp."
        )


@dataclass(frozen=True)
class FrameHash:
    """SHA-256 of a whole frame, and of each column, which tells where two frames differ."""

    sha256: str
    columns: dict[str, str]


def frame_hash(frame: pl.DataFrame) -> FrameHash:
    """The hash of `frame`: SHA-256 over its columns' hashes in the order of their names.

    Raises UnhashableColumnError.
    """
    series = sorted(frame.get_columns(), key=lambda column: column.name)
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_column_digest, series))
    whole = hashlib.sha256(FORMAT + len(series).to_bytes(8, "little") + b"".join(digests)).hexdigest()
    return FrameHash(whole, {column.name: digest.hex() for column, digest in zip(series, digests, strict=True)})


def _column_digest(column: pl.Series) -> bytes:
    digest = hashlib.sha256()
    for text in (column.name, _type_name(column)):
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    digest.update(len(column).to_bytes(8, "little"))
    digest.update(np.packbits(column.is_null().to_numpy(), bitorder="little").tobytes())
    for part in _value_bytes(column):
        digest.update(part)
    return digest.digest()


def _type_name(column: pl.Series) -> str:
    """Our own word for a type: a library's may change."""
    kind = column.dtype
    if isinstance(kind, pl.Datetime):
        return f"timestamp[{kind.time_unit},{kind.time_zone or ''}]"
    if isinstance(kind, pl.String | pl.Boolean | pl.Date):
        return type(kind).__name__.lower()
    code = (_INTEGERS | _FLOATS).get(type(kind))
    if code is None:
        raise UnhashableColumnError(column.name, kind)
    return code.removeprefix("<")


def _value_bytes(column: pl.Series) -> Iterator[bytes]:
    """The values in canonical bytes, in slices that keep memory bounded; every null as zero or empty."""
    for start in range(0, len(column), _SLICE_ROWS):
        part = column.slice(start, _SLICE_ROWS)
        if isinstance(part.dtype, pl.String):
            yield from _text_bytes(part.fill_null(""))
        elif type(part.dtype) in _FLOATS:
            yield _float_bytes(part.fill_null(0.0).to_numpy(), _FLOATS[type(part.dtype)])
        else:
            numbers = part.to_physical().cast(pl.UInt8 if part.dtype == pl.Boolean else part.to_physical().dtype)
            yield np.ascontiguousarray(numbers.fill_null(0).to_numpy(), _INTEGERS[type(numbers.dtype)]).tobytes()


def _text_bytes(texts: pl.Series) -> Iterator[bytes]:
    yield texts.str.len_bytes().to_numpy().astype("<i8").tobytes()
    yield texts.str.join("").item().encode()


def _float_bytes(values: "np.ndarray", code: str) -> bytes:
    # Adding positive zero turns -0.0 into 0.0 and changes nothing else.
    canonical = np.where(np.isnan(values), values.dtype.type(np.nan), values + values.dtype.type(0.0))
    return np.ascontiguousarray(canonical, code).tobytes()
