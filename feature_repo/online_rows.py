"""All values of a view for one entity in one message, which a read takes apart in C: Redis's timestamp field holds it.

The field is a google.protobuf.Timestamp to Feast, whose readers skip the fields of other numbers that follow in it: the
row, and its origin. Whoever writes the timestamp without a row leaves none, so a row never outlives its values.

A row is its texts, then for each feature a fixed number of bytes, then a byte for each that says whether it is there.
The message ends in definition, as-of moment and microseconds, so everything but the texts is at a fixed place from the
end. Features are in the order of their names.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from feature_repo.online_layout import OnlineStoreError, OnlineView
from feature_repo.online_messages import encode_timestamp

_FORMATS = {"float64": "d", "int64": "q", "string": "I", "boolean": "?"}
"""Of a string, the bytes of its text."""
_NOTHING = {"float64": 0.0, "int64": 0, "string": 0, "boolean": False}
_NUMPY = {"float64": "<f8", "int64": "<i8", "string": "<u4", "boolean": "?"}


class RowLayout:
    """Encodes and decodes the messages of one view. Threads may share it."""

    def __init__(self, view: OnlineView) -> None:
        self._kinds = dict(sorted(view.features.items()))
        self._definition = view.definition
        self._order = [list(self._kinds).index(name) for name in view.features]
        self._is_in_order = self._order == sorted(self._order)
        self._nothing = [None] * len(self._order)
        self._texts = [place for place, kind in enumerate(self._kinds.values()) if kind == "string"]
        fixed = "".join(_FORMATS[kind] for kind in self._kinds.values()) + f"{len(self._kinds)}s"
        self._struct = struct.Struct(f"<{fixed}x8s10xq")  # to the end of encode_timestamp's message
        self._whole = bytes([1]) * len(self._kinds)
        other = bytes([view.definition[0] ^ 1, *view.definition[1:]])
        self._absent = self._struct.pack(*(_NOTHING[kind] for kind in self._kinds.values()), self._whole, other, 0)
        """Stands for what is not there: a row of no definition that is asked for."""

    def encode(self, rows: pl.DataFrame, moments: Sequence[int], as_of: int) -> list[bytes]:
        """The message of each row: its moment and as-of moment, in microseconds since 1970, and its values."""
        fixed = np.zeros(len(rows), [(name, _NUMPY[kind]) for name, kind in self._kinds.items()])
        present = np.empty((len(rows), len(self._kinds)), "u1")
        texts: list[list[bytes]] = []
        for place, (name, kind) in enumerate(self._kinds.items()):
            values = rows[name].fill_nan(None) if kind == "float64" else rows[name]
            present[:, place] = values.is_not_null().to_numpy()
            if kind == "string":
                texts.append([b"" if value is None else value.encode() for value in values.to_list()])
                fixed[name] = [len(text) for text in texts[-1]]
            else:
                fixed[name] = values.fill_null(False if kind == "boolean" else 0).to_numpy()
        joined = map(b"".join, zip(*texts, strict=True)) if texts else [b""] * len(rows)
        parts = zip(moments, joined, fixed.view(f"V{fixed.itemsize}").tolist(), map(bytes, present), strict=True)
        return [
            encode_timestamp(moment, self._definition, as_of, text + numbers + there)
            for moment, text, numbers, there in parts
        ]

    def decode(self, messages: Sequence[bytes | None]) -> tuple[list[int | None], list[list[Any]]]:
        """The moments, in microseconds since 1970, and the columns of values in the view's order.

        What is missing, was written under another definition or by nobody of ours has no moment, and no values that
        mean anything. Raises OnlineStoreError for a message that no writer of ours made.
        """
        rows = [self._absent if message is None else message for message in messages]
        *values, present, definitions, moments = self._columns(rows)
        if definitions.count(self._definition) < len(rows):
            ours = [definition == self._definition for definition in definitions]
            if sum(ours) + rows.count(self._absent) < len(rows):
                rows = [row if is_ours else self._absent for row, is_ours in zip(rows, ours, strict=True)]
                *values, present, _, moments = self._columns(rows)
            moments = [moment if is_ours else None for moment, is_ours in zip(moments, ours, strict=True)]
        if self._texts:
            self._put_texts(rows, values)
        if present.count(self._whole) != len(present):
            for row, places in enumerate(map(_absent_places, present)):
                for place in places:
                    values[place][row] = None
        return moments, [values[place] for place in self._order]

    def decode_one(self, message: bytes | None) -> tuple[int | None, Sequence[Any]]:
        """As `decode`, of one message: its moment, and its values in the view's order."""
        start = len(message) - self._struct.size if message else -1
        if message is None or start < 0:
            return None, self._nothing
        *values, present, definition, moment = self._struct.unpack_from(message, start)
        if definition != self._definition:
            return None, self._nothing
        end = start
        for place in reversed(self._texts):
            begin = end - values[place]
            if begin < 0:
                raise _cut_short()
            values[place], end = message[begin:end].decode(), begin
        if present != self._whole:
            for place in _absent_places(present):
                values[place] = None
        return moment, values if self._is_in_order else [values[place] for place in self._order]

    def _columns(self, rows: Sequence[bytes]) -> list[list[Any]]:
        """What lies at the fixed places, as columns: the features, which are there, definition, moment."""
        size = self._struct.size
        tails = [row[-size:] for row in rows]
        if min(map(len, tails), default=size) < size:
            tails = [tail if len(tail) == size else self._absent for tail in tails]
        return [list(column) for column in zip(*self._struct.iter_unpack(b"".join(tails)), strict=True)] or [
            [] for _ in range(len(self._kinds) + 3)
        ]

    def _put_texts(self, rows: Sequence[bytes], values: list[list[Any]]) -> None:
        """Put the texts in the place of their lengths; the last text ends where the fixed places begin."""
        ends = [len(row) - self._struct.size for row in rows]
        for place in reversed(self._texts):
            starts = [end - length for end, length in zip(ends, values[place], strict=True)]
            if min(starts, default=0) < 0:
                raise _cut_short()
            values[place] = [row[start:end].decode() for row, start, end in zip(rows, starts, ends, strict=True)]
            ends = starts


def _cut_short() -> OnlineStoreError:
    return OnlineStoreError("The online store holds a row that is cut short.\nHint: run `mlway materialize`.")


@lru_cache(4_096)
def _absent_places(present: bytes) -> list[int]:
    return [place for place, is_there in enumerate(present) if not is_there]
