"""The hash of a frame: equal for equal data, however it lies in memory, and different for any other."""

import hashlib
import math
import struct
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlway_assets.compute.frame_hash import UnhashableColumnError, frame_hash

TYPES = {
    "count": pl.Int64(),
    "share": pl.Float64(),
    "text": pl.String(),
    "flag": pl.Boolean(),
    "day": pl.Date(),
    "at": pl.Datetime("us", "UTC"),
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(-(2**50), 2**50).map(lambda microseconds: EPOCH + timedelta(microseconds=microseconds))
ROW = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(),
    st.none() | st.text(max_size=5),
    st.none() | st.booleans(),
    st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.none() | MOMENTS,
)
FRAMES = st.lists(ROW, max_size=12).map(lambda rows: pl.DataFrame(rows, schema=TYPES, orient="row"))

quick = settings(deadline=None, derandomize=True)


def digest(frame: pl.DataFrame) -> str:
    return frame_hash(frame).sha256


@quick
@given(FRAMES, st.data())
def test_chunks_and_the_order_of_columns_are_not_data(frame: pl.DataFrame, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(frame)))
    names = data.draw(st.permutations(frame.columns))
    assert digest(pl.concat([frame[:cut], frame[cut:]], rechunk=False).select(names)) == digest(frame)


@quick
@given(FRAMES, FRAMES)
def test_two_frames_hash_the_same_exactly_when_they_are_equal(left: pl.DataFrame, right: pl.DataFrame) -> None:
    assert (digest(left) == digest(right)) == left.equals(right)


@quick
@given(FRAMES, st.data())
def test_any_changed_value_changes_the_hash_of_its_column_and_of_no_other(
    frame: pl.DataFrame, data: st.DataObject
) -> None:
    assume(len(frame))
    row, column = data.draw(st.integers(0, len(frame) - 1)), data.draw(st.sampled_from(frame.columns))
    values = frame[column].to_list()
    values[row] = data.draw(ROW)[frame.columns.index(column)]
    changed = frame.with_columns(pl.Series(column, values, dtype=TYPES[column]))
    before, after = frame_hash(frame), frame_hash(changed)
    different = {name for name in frame.columns if before.columns[name] != after.columns[name]}
    assert different == (set() if changed.equals(frame) else {column})
    assert (before.sha256 != after.sha256) == bool(different)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [2, 1]})),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"b": [1]})),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1.0]})),
        (pl.DataFrame({"a": [0]}), pl.DataFrame({"a": [None]}, schema={"a": pl.Int64})),
        (pl.DataFrame({"a": [""]}), pl.DataFrame({"a": [None]}, schema={"a": pl.String})),
        (pl.DataFrame({"a": ["ab", "c"]}), pl.DataFrame({"a": ["a", "bc"]})),
        (pl.DataFrame({"a": [float("nan")]}), pl.DataFrame({"a": [None]}, schema={"a": pl.Float64})),
        (pl.DataFrame({"a": []}, schema={"a": pl.Int64}), pl.DataFrame({"a": []}, schema={"a": pl.String})),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1], "b": [1]})),
        (
            pl.DataFrame({"a": [EPOCH]}, schema={"a": pl.Datetime("us", "UTC")}),
            pl.DataFrame({"a": [EPOCH]}, schema={"a": pl.Datetime("us", "UTC")}).cast(pl.Datetime("us")),
        ),
    ],
)
def test_rows_names_types_and_nulls_are_data(left: pl.DataFrame, right: pl.DataFrame) -> None:
    assert digest(left) != digest(right)


def test_zeros_are_one_number_and_every_nan_is_one_value() -> None:
    import numpy as np

    odd_nan = np.array([0x7FF8_0000_0000_0001], dtype="u8").view("f8")
    assert digest(pl.DataFrame({"a": [0.0, float("nan")]})) == digest(
        pl.DataFrame({"a": np.concatenate([np.array([-0.0]), -odd_nan])})
    )


def test_what_lies_under_a_null_is_not_data() -> None:
    hidden = pl.DataFrame({"a": [1, 2], "keep": [True, False]}).select(pl.when("keep").then("a").alias("a"))
    assert digest(hidden) == digest(pl.DataFrame({"a": [1, None]}))


def reference(frame: pl.DataFrame) -> str:
    """The format as its description says, value by value, without NumPy or Polars: what another machine would do."""
    words = {
        "count": "i8",
        "share": "f8",
        "text": "string",
        "flag": "boolean",
        "day": "date",
        "at": "timestamp[us,UTC]",
    }
    codes = {"count": "<q", "share": "<d", "flag": "<B", "day": "<i", "at": "<q"}
    digests = []
    for name in sorted(frame.columns):
        values = frame[name].to_list()
        parts = [struct.pack("<q", len(text)) + text for text in (name.encode(), words[name].encode())]
        parts.append(struct.pack("<q", len(values)))
        mask = sum((value is None) << place for place, value in enumerate(values))
        parts.append(mask.to_bytes((len(values) + 7) // 8, "little"))
        if name == "text":
            texts = [(value or "").encode() for value in values]
            parts += [*(struct.pack("<q", len(text)) for text in texts), *texts]
        else:
            parts += [struct.pack(codes[name], number(value)) for value in values]
        digests.append(hashlib.sha256(b"".join(parts)).digest())
    head = b"mlway-frame-1" + struct.pack("<q", len(digests))
    return hashlib.sha256(head + b"".join(digests)).hexdigest()


def number(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days
    if isinstance(value, float):
        return math.nan if math.isnan(value) else value + 0.0
    return value or 0


@quick
@given(FRAMES)
def test_the_hash_is_that_of_the_format_as_described(frame: pl.DataFrame) -> None:
    assert digest(frame) == reference(frame)


def test_the_hash_is_what_it_was_when_it_was_first_written() -> None:
    """Recorded hashes are only worth something as long as this stays."""
    frame = pl.DataFrame(
        [(1, 0.5, "ä", True, date(2013, 10, 1), datetime(2013, 10, 1, tzinfo=UTC)), (None,) * 6],
        schema=TYPES,
        orient="row",
    )
    assert digest(frame) == "a7b46b054e0e9b3eb90efac6f1173ece245764806f451fe62bd6dc9b58c61c5c"


def test_a_type_without_a_canonical_form_is_refused() -> None:
    with pytest.raises(UnhashableColumnError, match=r"The column 'a' is List\(Int64\)"):
        frame_hash(pl.DataFrame({"a": [[1]]}))
