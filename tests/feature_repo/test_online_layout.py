"""The online store's bytes against Feast's own encoder and decoder."""

import random
import struct
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.column_types import POLARS_TYPES
from feature_repo.online_layout import EntityKeys, OnlineStoreError, OnlineView, redis_field
from feature_repo.online_messages import encode_values
from feature_repo.online_rows import RowLayout
from feature_repo.store import _import_feast

_import_feast()
from feast.infra.key_encoding_utils import serialize_entity_key, serialize_entity_key_prefix  # noqa: E402
from feast.infra.online_stores.helpers import _mmh3  # noqa: E402
from feast.protos.feast.types.EntityKey_pb2 import EntityKey  # noqa: E402
from feast.protos.feast.types.Value_pb2 import Value  # noqa: E402
from google.protobuf.timestamp_pb2 import Timestamp  # noqa: E402

INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = {"float64": st.floats(), "int64": INTEGERS, "string": TEXTS, "boolean": st.booleans()}
FIELDS = {"float64": "double_val", "int64": "int64_val", "string": "string_val", "boolean": "bool_val"}
COLUMNS = st.sampled_from(sorted(VALUES)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(st.one_of(st.none(), VALUES[kind]), max_size=20))
)
MOMENTS = st.integers(-(2**55), 2**55)


def bits(value: object) -> object:
    return struct.pack("<d", value) if isinstance(value, float) else value


def is_null(value: object) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN


@given(COLUMNS)
def test_values_are_feasts_messages_and_come_back_to_the_bit(column: tuple[str, list[object]]) -> None:
    kind, values = column
    messages = encode_values(pl.Series(values, dtype=POLARS_TYPES[kind]), kind)
    feasts = [Value() if is_null(value) else Value(**{FIELDS[kind]: value}) for value in values]
    assert messages == [message.SerializeToString() for message in feasts]


KINDS = sorted(VALUES) * 3
VIEW = OnlineView("v", {"key": "string"}, {f"f{place}": kind for place, kind in enumerate(KINDS)}, b"written!")
ROWS = st.lists(st.tuples(MOMENTS, *(st.one_of(st.none(), VALUES[kind]) for kind in KINDS)), max_size=30)


def messages_of(rows: list[tuple[Any, ...]], view: OnlineView = VIEW) -> list[bytes]:
    kinds = {name: POLARS_TYPES[kind] for name, kind in view.features.items()}
    frame = pl.DataFrame([row[1:] for row in rows], kinds, orient="row")
    return RowLayout(view).encode(frame, [row[0] for row in rows], as_of=7)


@given(ROWS)
def test_rows_come_back_to_the_bit_from_messages_that_feast_reads_as_timestamps(rows: list[tuple[Any, ...]]) -> None:
    messages = messages_of(rows)
    read = [Timestamp.FromString(message) for message in messages]
    assert [each.seconds * 1_000_000 + each.nanos // 1_000 for each in read] == [row[0] for row in rows]
    wanted = [[None if is_null(value) else bits(value) for value in row[1:]] for row in rows]
    moments, columns = RowLayout(VIEW).decode(messages)
    assert moments == [row[0] for row in rows]
    assert [[bits(value) for value in row] for row in zip(*columns, strict=True)] == wanted
    for message, row, values in zip(messages, rows, wanted, strict=True):
        assert len(message) > 17
        [moment], alone = RowLayout(VIEW).decode([message])
        assert (moment, [bits(value) for [value] in alone]) == (row[0], values)


@given(ROWS.filter(len), st.randoms(use_true_random=False))
def test_what_others_wrote_or_nobody_has_no_moment_and_disturbs_no_neighbour(
    rows: list[tuple[Any, ...]], dice: random.Random
) -> None:
    foreign = [None, b"", Timestamp(seconds=1_700_000_000).SerializeToString(), b"x" * 500]
    foreign += messages_of([rows[0][:2]], replace(VIEW, definition=b"another!", features={"f": KINDS[0]}))
    mixed = [(message, row) for message, row in zip(messages_of(rows), rows, strict=True)]
    mixed += [(message, None) for message in foreign]
    dice.shuffle(mixed)
    layout = RowLayout(VIEW)
    moments, columns = layout.decode([message for message, _ in mixed])
    for place, (message, row) in enumerate(mixed):
        assert moments[place] == layout.decode([message])[0][0] == (row and row[0])
        if row:
            wanted = [None if is_null(value) else bits(value) for value in row[1:]]
            assert [bits(column[place]) for column in columns] == wanted


@pytest.mark.parametrize("count", [1, 3])
def test_a_row_that_is_cut_short_is_an_error(count: int) -> None:
    view = replace(VIEW, features={"f": "string"})
    message = messages_of([(7, "a long text")], view)[0]
    with pytest.raises(OnlineStoreError, match="cut short"):
        RowLayout(view).decode([message[-34:]] * count)


@given(TEXTS, INTEGERS)
def test_entity_keys_are_feasts_bytes(text: str, number: int) -> None:
    feasts = EntityKey(join_keys=["flight", "carrier"], entity_values=[Value(int64_val=number), Value(string_val=text)])
    keys = EntityKeys({"flight": "int64", "carrier": "string"})
    key = serialize_entity_key(feasts, entity_key_serialization_version=3)
    assert keys.encode({"flight": [number, None], "carrier": [text, text]}) == [key, None]
    assert key.startswith(keys.prefix)
    assert keys.prefix == serialize_entity_key_prefix(["flight", "carrier"])


@pytest.mark.parametrize(("kind", "value"), [("string", 7), ("int64", "7"), ("int64", 2**63), ("string", "\ud800")])
def test_a_join_key_of_another_type_is_an_error_that_names_it(kind: str, value: object) -> None:
    with pytest.raises(OnlineStoreError, match="join key 'tailnum'"):
        EntityKeys({"tailnum": kind}).encode({"tailnum": [value]})


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_fields_are_named_as_feast_names_them(view: str, feature: str) -> None:
    assert redis_field(view, feature) == _mmh3(f"{view}:{feature}")
