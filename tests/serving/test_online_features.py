"""The decoder of Feast's online layout, against Feast's own encoder."""

import struct
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.load import load_project
from feature_repo.store import _import_feast
from serving.online_features import OnlineStoreError, SqliteOnlineFeatures, decode_value, entity_key

_import_feast()
from feast.infra.key_encoding_utils import serialize_entity_key  # noqa: E402
from feast.protos.feast.types.EntityKey_pb2 import EntityKey  # noqa: E402
from feast.protos.feast.types.Value_pb2 import Value  # noqa: E402

INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(max_size=20).filter(lambda text: "\x00" not in text)


@given(st.floats(allow_nan=False))
def test_doubles_decode_to_the_bit(number: float) -> None:
    decoded = decode_value(Value(double_val=number).SerializeToString())
    assert struct.pack("<d", decoded) == struct.pack("<d", number)


@given(INTEGERS)
def test_integers_decode(number: int) -> None:
    assert decode_value(Value(int64_val=number).SerializeToString()) == number


@given(TEXTS)
def test_texts_decode(text: str) -> None:
    assert decode_value(Value(string_val=text).SerializeToString()) == text


@pytest.mark.parametrize("flag", [True, False])
def test_booleans_decode(flag: bool) -> None:
    assert decode_value(Value(bool_val=flag).SerializeToString()) is flag


def test_an_empty_value_is_none_and_an_unknown_kind_an_error() -> None:
    assert decode_value(Value().SerializeToString()) is None
    with pytest.raises(OnlineStoreError, match="unknown type"):
        decode_value(Value(bytes_val=b"x").SerializeToString())


@given(TEXTS, INTEGERS)
def test_entity_keys_are_feasts_bytes(text: str, number: int) -> None:
    feasts = EntityKey(join_keys=["flight", "carrier"], entity_values=[Value(int64_val=number), Value(string_val=text)])
    ours = entity_key({"flight": "int64", "carrier": "string"}, [number, text])
    assert ours == serialize_entity_key(feasts, entity_key_serialization_version=3)


def test_a_key_with_a_null_is_no_key() -> None:
    assert entity_key({"tailnum": "string"}, [None]) is None


def test_a_store_that_is_not_there_is_an_error_that_says_what_to_do() -> None:
    project = load_project()
    groups = project.table_groups(project.products["flight_delay"])
    keys = {key: kind for group in groups for key, kind in group.join_keys.items()}
    row = pl.DataFrame({name: ["x"] if kind == "string" else [1] for name, kind in keys.items()})
    with pytest.raises(OnlineStoreError, match="mlway materialize"):
        SqliteOnlineFeatures("/nowhere/online.db", groups).read(row, datetime(2013, 10, 1, tzinfo=UTC))
