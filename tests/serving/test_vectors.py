"""The matrix of one request is the matrix of the frame, bit for bit."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.column_types import POLARS_TYPES
from serving.scoring import MissingFeaturesError, ModelContract, feature_matrix
from serving.vectors import VectorBuilder

KINDS = {"whole": "int64", "real": "float64", "text": "string", "flag": "boolean", "more": "string"}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(allow_nan=False),
    "string": st.sampled_from(["a", "b", "c", "never seen"]),
    "boolean": st.booleans(),
}
CONTRACT = ModelContract(product="p", features=KINDS, levels={"text": ["a", "b"], "more": ["b", "c"]})
ROWS = st.lists(st.tuples(*(st.one_of(st.none(), VALUES[kind]) for kind in KINDS.values())), min_size=1, max_size=20)


@given(ROWS)
def test_the_matrix_of_columns_is_the_matrix_of_a_frame(rows: list[tuple[Any, ...]]) -> None:
    columns = dict(zip(KINDS, map(list, zip(*rows, strict=True)), strict=True))
    frame = pl.DataFrame(columns, {name: POLARS_TYPES[kind] for name, kind in KINDS.items()})
    matrix = VectorBuilder(CONTRACT).matrix(columns | {"not of the model": [0] * len(rows)})
    assert matrix.tobytes() == feature_matrix(frame, CONTRACT).tobytes()
    assert matrix.flags.c_contiguous


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingFeaturesError, match="more"):
        VectorBuilder(CONTRACT).matrix({"whole": [1], "real": [1.0], "text": ["a"], "flag": [True]})
