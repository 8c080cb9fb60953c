import io

import polars as pl
import pytest

from mlway_assets.sources.reading import SourceError
from mlway_assets.sources.tabular import parse, parse_csv

PLACE = "inbox/2013-10-01.csv"
NDJSON = b'{"id": 1, "name": "a"}\n{"id": 2, "name": "b"}\n'


def parquet() -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame({"id": [1, 2], "name": ["a", "b"]}).write_parquet(buffer)
    return buffer.getvalue()


def test_a_csv_file_is_read_as_text() -> None:
    assert parse_csv(b"id,name\n007,a\n", PLACE, ("",)).rows() == [("007", "a")]


def test_the_declared_null_values_are_null() -> None:
    assert parse_csv(b"id,name\nNA,a\n1,-\n", PLACE, ("NA", "-")).rows() == [(None, "a"), ("1", None)]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"id,name\n1,a\n2,b\n", id="unix"),
        pytest.param(b"id,name\r\n1,a\r\n2,b\r\n", id="windows"),
        pytest.param(b"id,name\n1,a\n2,b", id="no newline at the end"),
        pytest.param(b"\xef\xbb\xbfid,name\n1,a\n2,b\n", id="byte order mark"),
        pytest.param(b'"id","name"\n"1","a"\n"2","b"\n', id="quoted"),
    ],
)
def test_csv_dialects_read_alike(content: bytes) -> None:
    assert parse_csv(content, PLACE, ("",)).to_dict(as_series=False) == {"id": ["1", "2"], "name": ["a", "b"]}


def test_a_quoted_csv_field_may_hold_commas_quotes_and_line_breaks() -> None:
    content = b'id,name\n1,"a, ""b""\nc"\n'
    assert parse_csv(content, PLACE, ("",)).rows() == [("1", 'a, "b"\nc')]


def test_a_csv_file_with_only_a_header_has_no_rows() -> None:
    assert parse_csv(b"id,name\n", PLACE, ("",)).shape == (0, 2)


def test_a_csv_file_cut_anywhere_before_its_last_field_is_refused() -> None:
    whole = b'id,name,price\n1,"a, b",2.5\n2,"c, d",3.5\n'
    last_line, last_comma = whole.rfind(b"\n", 0, -1) + 1, whole.rfind(b",")
    for end in range(last_line + 1, last_comma + 1):
        with pytest.raises(SourceError, match=PLACE):
            parse_csv(whole[:end], PLACE, ("",))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"", "line 1 has 0 of 0 fields", id="empty"),
        pytest.param(b"id,name\n1\n2,b\n", "line 2 has 1 of 2 fields", id="short line in the middle"),
        pytest.param(b"id,name\n1,a,x\n2,b\n", "line 2 has 3 of 2 fields", id="long line"),
        pytest.param(b"id,name\n1,a\n\n", "line 3 has 0 of 2 fields", id="blank line"),
        pytest.param(b'id,name\n1,"a\n', "cannot be read", id="open quote"),
        pytest.param(b'id,name\n1,"' + b"x\n" * 100_000, "cannot be read", id="long open quote"),
        pytest.param(b"id,name\n1,\xff\n", "cannot be read: invalid utf-8", id="not UTF-8"),
    ],
)
def test_a_malformed_csv_file_is_refused_by_name(content: bytes, problem: str) -> None:
    with pytest.raises(SourceError, match=f"{PLACE}: .*{problem}"):
        parse_csv(content, PLACE, ("",))


def test_ndjson_and_parquet_keep_their_types() -> None:
    assert parse(NDJSON, "ndjson", PLACE, ()).rows() == [(1, "a"), (2, "b")]
    assert parse(parquet(), "parquet", PLACE, ()).rows() == [(1, "a"), (2, "b")]


def test_an_ndjson_value_after_many_nulls_is_read() -> None:
    content = b'{"id": null}\n' * 500 + b'{"id": 7}\n'
    assert parse(content, "ndjson", PLACE, ())["id"].drop_nulls().to_list() == [7]


def test_an_ndjson_file_cut_inside_any_row_is_refused() -> None:
    second = NDJSON.index(b"\n") + 1
    for end in [*range(1, second - 1), *range(second + 1, len(NDJSON) - 1)]:
        with pytest.raises(SourceError, match=PLACE):
            parse(NDJSON[:end], "ndjson", PLACE, ())


def test_a_parquet_file_cut_anywhere_is_refused() -> None:
    whole = parquet()
    for end in range(len(whole)):
        with pytest.raises(SourceError, match=PLACE):
            parse(whole[:end], "parquet", PLACE, ())


def test_damage_inside_a_parquet_page_is_refused_by_name() -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"id": range(1000)}).write_parquet(buffer, compression="uncompressed")
    damaged = bytearray(buffer.getvalue())
    # 0, 1, 2 and 3 in ten bits each; the byte before their run's header says ten. Polars panics at 245.
    width = damaged.rindex(b"\x0a", 0, damaged.index(b"\x00\x04\x20\xc0\x00"))
    damaged[width] = 245
    with pytest.raises(SourceError, match=PLACE):
        parse(bytes(damaged), "parquet", PLACE, ())


@pytest.mark.parametrize("file_format", ["parquet", "ndjson"])
def test_a_file_in_another_format_is_refused_by_name(file_format: str) -> None:
    with pytest.raises(SourceError, match=PLACE):
        parse(b"id,name\n1,a\n", file_format, PLACE, ())
