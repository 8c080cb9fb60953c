"""Request features of rows of Python values are those of a frame, to the bit."""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.features import RequestFeatures
from configs.load import load_project
from feature_repo.column_types import POLARS_TYPES
from feature_repo.expressions import roots
from feature_repo.request_features import request_features
from feature_repo.request_rows import RequestRows

TYPES = {"n": "int64", "m": "int64", "x": "float64", "y": "float64", "flag": "boolean", "text": "string"}
TYPES |= {"moment": "timestamp"}
EXPRESSIONS = {
    "int64": [
        "n + m", "n - 2 * m", "-n", "ABS(n)", "COALESCE(n, m, 0)", "NULLIF(n, 0)", "CAST(x AS BIGINT)",
        "CAST(flag AS BIGINT) * 3", "CASE WHEN n > m THEN n WHEN flag THEN m ELSE 7 END",
        "CAST(date_part('hour', local) AS BIGINT) * 60 + CAST(date_part('minute', local) AS BIGINT)",
        "date_part('isodow', local)", "date_part('year', moment)", "date_part('month', local)",
        "date_part('day', local)", "ABS(-3) + n", "CAST(1.5 AS BIGINT) - n",
        "CAST(date_part('epoch', moment) / 60 AS BIGINT) - n",
    ],
    "float64": [
        "x / 7.0", "n / 10", "n / m", "x / y", "(x + n) / (2 + 1)", "x * y - n", "n * 1.5", "ABS(x)",
        "n - 2 * (x / 7.0 + 40)", "CASE WHEN x > 0 THEN x / 3 ELSE n / 11 END", "COALESCE(x, n, 0)",
        "date_part('epoch', moment)", "CAST(n AS DOUBLE) / 3", "x", "n",
    ],
    "boolean": [
        "n > m", "x <= n", "text = 'UA'", "text <> 'UA'", "n = COALESCE(m, 0)", "flag", "NOT flag", "x IS NULL",
        "n IS NOT NULL AND x >= 1 OR NOT flag", "n BETWEEN 1 AND 20", "(n > m) AND (x > y)", "(n > m) OR (x > y)",
        "1 IS NULL OR flag", "2 IS NOT NULL AND flag", "TRUE AND flag", "NOT (1 = 1)",
    ],
    "string": ["text", "CASE WHEN n > 0 THEN text ELSE 'none' END", "COALESCE(text, '{0}')", "'\\ {text}'"],
}  # fmt: skip
SMALL = st.integers(-20, 20)
VALUES = {
    "int64": st.one_of(SMALL, st.integers(-(10**9), 10**9), st.sampled_from([2**53, 2**53 + 1, -(2**63)])),
    "float64": st.one_of(SMALL.map(float), st.floats(-1e6, 1e6), st.floats()),
    "boolean": st.booleans(),
    "string": st.sampled_from(["UA", "AA", ""]),
    "timestamp": st.one_of(
        st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 - hypothesis adds no zone
        # Around changes to and from daylight saving time.
        st.timedeltas(timedelta(hours=-3), timedelta(hours=3)).map(lambda by: datetime(2013, 3, 10, 7) + by),  # noqa: DTZ001
        st.timedeltas(timedelta(hours=-3), timedelta(hours=3)).map(lambda by: datetime(2013, 11, 3, 6) + by),  # noqa: DTZ001
    ).map(lambda moment: moment.replace(tzinfo=UTC)),
}


def rows_of(types: Mapping[str, str]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    values = (st.one_of(st.none(), VALUES[kind]) for kind in types.values())
    return st.lists(st.tuples(*values), min_size=1, max_size=6)


def read_by(text: str) -> dict[str, str]:
    """What the expression reads, with its types: examples of nothing else are worth their time."""
    names = {"moment" if name == "local" else name for name in roots(text)}
    return {name: kind for name, kind in TYPES.items() if name in names}


def group_of(expressions: list[str], kind: str, types: Mapping[str, str] = TYPES) -> RequestFeatures:
    features = {
        f"f{number}": {"expression": text, "type": kind, "description": text} for number, text in enumerate(expressions)
    }
    local = {"local": {"of": "moment", "time_zone": "America/New_York"}} if "moment" in types else {}
    return RequestFeatures.model_validate(
        {"name": "asked", "kind": "request", "description": "Asked.", "owner": "team:tests", "fields": types}
        | {"local_times": local, "features": features}
    )


def bits(value: Any) -> Any:
    return struct.pack("<d", value) if isinstance(value, float) and value == value else repr(value)  # noqa: PLR0124 - NaN


def outcome(compute: Any) -> Any:
    """The features' bits, or that there are none."""
    try:
        return {name: list(map(bits, values)) for name, values in compute().items()}
    except pl.exceptions.PolarsError as error:
        return type(error)


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in EXPRESSIONS.items() for text in texts])
def test_rows_get_the_bits_that_a_frame_gets(kind: str, text: str) -> None:
    types = read_by(text)
    group = group_of([text], kind, types)
    computed = RequestRows(group, types)
    assert computed.is_compiled
    schema = {name: POLARS_TYPES[each] for name, each in types.items()}

    @settings(max_examples=60, deadline=None)
    @given(rows=rows_of(types))
    def agree(rows: list[tuple[Any, ...]]) -> None:
        columns = dict(zip(types, map(list, zip(*rows, strict=True)), strict=True))
        # A row that nobody asks for is beside them: a frame of one row would be evaluated otherwise.
        frame = pl.DataFrame({name: [*values, None] for name, values in columns.items()}, schema)
        many = outcome(lambda: request_features(group, frame).head(len(rows)).to_dict(as_series=False))
        assert outcome(lambda: computed.values(columns)) == many

    agree()


@pytest.mark.parametrize("text", ["n % 7", "n // 2", "date_part('hour', moment) * 60", "text || 'x'", "text IN ('a')"])
def test_what_is_not_understood_to_the_last_bit_goes_through_a_frame(text: str) -> None:
    group = group_of([text], "string" if "text ||" in text else "boolean" if "IN" in text else "int64")
    computed = RequestRows(group, TYPES)
    assert not computed.is_compiled
    row = {name: [None] for name in TYPES} | {"n": [9], "text": ["a"], "moment": [datetime(2013, 1, 1, 1, tzinfo=UTC)]}
    frame = pl.DataFrame(row, {name: POLARS_TYPES[kind] for name, kind in TYPES.items()})
    assert computed.values(row) == request_features(group, frame).to_dict(as_series=False)


def test_an_expression_that_nests_deeper_than_python_allows_goes_through_a_frame() -> None:
    deep = "+".join(["n"] * 150)
    computed = RequestRows(group_of([deep], "int64"), TYPES)
    assert not computed.is_compiled


def test_every_declared_request_feature_of_the_project_needs_no_frame() -> None:
    project = load_project()
    types = {name: kind for group in project.features.values() for name, kind in group.types.items()}
    groups = [group for group in project.features.values() if isinstance(group, RequestFeatures)]
    assert groups
    for group in groups:
        used = [name for names in group.uses.values() for name in names]
        known = {**group.fields, **{name: types[name] for name in used}}
        assert RequestRows(group, known).is_compiled
