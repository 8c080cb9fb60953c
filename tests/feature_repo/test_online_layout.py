"""The online store's bytes against Feast's own encoder and decoder."""

import struct
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.column_types import POLARS_TYPES
from feature_repo.online_layout import EntityKeys, OnlineStoreError, redis_field
from feature_repo.online_messages import ValueDecoder, decode_timestamps, encode_timestamp, encode_values
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
    wanted = [None if is_null(value) else bits(value) for value in values]
    assert list(map(bits, ValueDecoder([kind]).decode([messages])[0])) == wanted


ROWS = st.lists(st.tuples(*(st.one_of(st.none(), VALUES[kind]) for kind in sorted(VALUES) * 3)), max_size=30)


@given(ROWS)
def test_columns_of_every_type_are_decoded_together(rows: list[tuple[object, ...]]) -> None:
    kinds = sorted(VALUES) * 3
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in kinds]
    messages: list[list[bytes | None]] = [
        [None if value is None else Value(**{FIELDS[kind]: value}).SerializeToString() for value in column]
        for kind, column in zip(kinds, columns, strict=True)
    ]
    wanted = [[None if is_null(value) else bits(value) for value in column] for column in columns]
    assert [list(map(bits, column)) for column in ValueDecoder(kinds).decode(messages)] == wanted


@pytest.mark.parametrize("kind", sorted(VALUES))
@pytest.mark.parametrize("count", [1, 100])
def test_a_message_of_another_type_is_an_error(kind: str, count: int) -> None:
    with pytest.raises(OnlineStoreError, match=f"declared {kind}"):
        ValueDecoder([kind]).decode([[Value(bytes_val=b"12345678").SerializeToString()] * count])


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


@given(MOMENTS, st.binary(min_size=8, max_size=8), INTEGERS)
def test_timestamps_are_messages_that_feast_reads_to_the_microsecond(
    moment: int, definition: bytes, as_of: int
) -> None:
    message = encode_timestamp(moment, definition, as_of)
    assert decode_timestamps([message, message], definition) == [moment, moment]
    assert decode_timestamps([message, None], definition) == [moment, None]
    other = bytes([definition[0] ^ 1]) + definition[1:]
    for messages in ([message], [message, message], [message, b""]):
        assert decode_timestamps(messages, other)[0] is None
    feasts = Timestamp.FromString(message)
    assert feasts.seconds * 1_000_000 + feasts.nanos // 1_000 == moment
    assert len(message) > 17


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001 - hypothesis adds no zone
def test_timestamps_that_feast_wrote_are_read(moment: datetime) -> None:
    message = Timestamp()
    message.FromDatetime(moment.replace(tzinfo=UTC))
    assert decode_timestamps([message.SerializeToString()], bytes(8))[0] == message.ToMicroseconds()
    assert len(message.SerializeToString()) <= 17


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_fields_are_named_as_feast_names_them(view: str, feature: str) -> None:
    assert redis_field(view, feature) == _mmh3(f"{view}:{feature}")
