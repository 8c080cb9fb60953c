"""Request features, and what identifies their definitions."""

import polars as pl
import pytest

from configs.features import RequestFeatures
from feature_repo.request_features import evaluate_columns, with_request_features
from feature_repo.services import group_digest

GROUP = RequestFeatures.model_validate(
    {
        "name": "request",
        "kind": "request",
        "description": "A constant and what the request says.",
        "fields": {"python": "string"},
        "features": {
            "constant": {"expression": "1.5", "type": "float64"},
            "language": {"expression": "python", "type": "string"},
        },
    }
)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_constant_feature_has_a_value_for_every_row(rows: int) -> None:
    frame = pl.DataFrame({"python": ["3"] * rows}, schema={"python": pl.String})
    assert with_request_features([GROUP], frame)["constant"].to_list() == [1.5] * rows
    constant = GROUP.model_copy(update={"features": {"constant": GROUP.features["constant"]}})
    assert evaluate_columns(constant.model_dump_json(), {"python": ["3"] * rows}) == {"constant": [1.5] * rows}


def test_a_request_field_called_python_names_no_function() -> None:
    other = GROUP.model_copy(update={"fields": {"python": "int64"}})
    assert group_digest(GROUP) != group_digest(other)
