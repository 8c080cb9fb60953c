"""The one implementation of request features: training, batch and the endpoint all call it."""

from collections.abc import Iterable
from typing import Any

import polars as pl

from configs.features import RequestFeatures
from feature_repo.column_types import POLARS_TYPES
from feature_repo.expressions import parse, parse_for_one_row


def with_request_features(groups: Iterable[RequestFeatures], frame: pl.DataFrame) -> pl.DataFrame:
    """`frame`, which holds the request's fields and the features that the groups use, with their features added."""
    for group in groups:
        computed = request_features(group, frame)
        frame = frame.drop(*(name for name in computed.columns if name in frame.columns)).hstack(computed)
    return frame


def request_features(group: RequestFeatures, frame: pl.DataFrame) -> pl.DataFrame:
    """The group's features of each row of `frame`, and nothing else. One row gets the bits that many get."""
    local = {
        name: pl.col(time.of).dt.convert_time_zone(time.time_zone).dt.replace_time_zone(None)
        for name, time in group.local_times.items()
    }
    understood = parse_for_one_row if len(frame) == 1 else parse
    features = {
        name: understood(feature.expression).cast(POLARS_TYPES[feature.type])
        for name, feature in group.features.items()
    }
    # A feature may be called like the field it passes on, so the local times only live while it is computed.
    # Added to the frame and taken from it again, since a constant alone would be one row.
    frame = frame.with_columns(**local) if local else frame
    return frame.with_columns(**features).select(list(features))


def evaluate_columns(declaration: str, inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The features of one group for Feast's on-demand views: columns as lists in, columns as lists out.

    `declaration` is the group as JSON; `inputs` also holds the features that it uses, perhaps as `view__feature`.
    """
    group = RequestFeatures.model_validate_json(declaration)
    types = {name: POLARS_TYPES[kind] for name, kind in group.fields.items()}
    frame = pl.DataFrame(
        {name: pl.Series(inputs[name], dtype=types.get(name)) for name in [*group.fields, *_used(group)]}
    )
    return request_features(group, frame).to_dict(as_series=False)


def _used(group: RequestFeatures) -> list[str]:
    return [feature for features in group.uses.values() for feature in features]
