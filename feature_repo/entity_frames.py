"""The entity frame of a retrieval: which rows ask for features, as of when. Checked before any work is done."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa

from configs.errors import MlwayError
from feature_repo.timestamps import as_utc
from feature_repo.windows import EVENT_TIMESTAMP


class EntityFrameError(MlwayError):
    """The entity frame cannot be joined as it is."""


def entity_frame(given: Any, tables: Callable[[str], pl.LazyFrame | None]) -> pl.DataFrame:
    """The rows with `event_timestamp` in UTC microseconds.

    `given` is a Polars, pandas or Arrow frame, or a SQL query, whose tables `tables` opens by name. Raises
    EntityFrameError naming the column and the remedy.
    """
    frame = _as_polars(given, tables)
    if EVENT_TIMESTAMP not in frame.columns:
        raise EntityFrameError(
            f"The entity frame has no column {EVENT_TIMESTAMP!r}; it has {', '.join(frame.columns)}.\n"
            "Hint: add the moment as of which each row's features are wanted."
        )
    _check_timestamps(frame[EVENT_TIMESTAMP])
    return frame.with_columns(as_utc(EVENT_TIMESTAMP, frame.schema[EVENT_TIMESTAMP], "down"))


def check_keys(entities: pl.DataFrame, view: str, keys: Mapping[str, pl.DataType]) -> None:
    """Raises EntityFrameError unless the entity frame has a view's key columns, in types that mean the same.

    `keys` are the columns under the entity frame's names, with the view's types.
    """
    for key, kind in keys.items():
        if key not in entities.columns:
            raise EntityFrameError(
                f"The entity frame has no column {key!r}, by which {view!r} is joined; it has "
                f"{', '.join(entities.columns)}.\nHint: add it, or leave out the features of {view!r}."
            )
        given = entities.schema[key]
        if not _is_comparable(given, kind):
            raise EntityFrameError(
                f"Column {key!r} of the entity frame is {given}; {view!r} has it as {kind}.\n"
                f"Hint: cast it: frame.with_columns(pl.col({key!r}).cast(pl.{kind}))."
            )


def check_names(entities: pl.DataFrame, features: Iterable[str]) -> None:
    """Raises EntityFrameError when a feature is called like a column of the entity frame, or like another feature."""
    seen = set(entities.columns)
    for feature in features:
        if feature in seen:
            raise EntityFrameError(
                f"{feature!r} is there twice: in the entity frame, or in two of the views.\n"
                "Hint: rename the column, or ask with full_feature_names=True."
            )
        seen.add(feature)


def _as_polars(given: Any, tables: Callable[[str], pl.LazyFrame | None]) -> pl.DataFrame:
    if isinstance(given, str):
        return _queried(given, tables)
    if isinstance(given, pl.LazyFrame):
        return given.collect()
    if isinstance(given, pa.Table | pd.DataFrame):
        try:
            return _from_pandas(given) if isinstance(given, pd.DataFrame) else pl.DataFrame(pl.from_arrow(given))
        except (ValueError, TypeError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise EntityFrameError(
                f"The entity frame cannot be read: {error}.\nHint: give each column one name and one type."
            ) from error
    if not isinstance(given, pl.DataFrame):
        raise EntityFrameError(
            f"The entity frame is a {type(given).__name__}.\n"
            "Hint: give a Polars, pandas or Arrow frame, or a SQL query as text."
        )
    return given


def _queried(query: str, tables: Callable[[str], pl.LazyFrame | None]) -> pl.DataFrame:
    named = {name: tables(name) for name in sorted(set(re.findall(r"[A-Za-z_]\w*", query)))}
    context = pl.SQLContext({name: frame for name, frame in named.items() if frame is not None})
    try:
        return context.execute(query).collect()
    except pl.exceptions.PolarsError as error:
        known = ", ".join(sorted(context.tables())) or "none that the query names"
        raise EntityFrameError(
            f"The entity query cannot be run: {error}.\n"
            f"Hint: write Polars SQL over the data sources' names; found: {known}."
        ) from error


def _from_pandas(given: pd.DataFrame) -> pl.DataFrame:
    if not given.columns.is_unique:
        raise ValueError(f"columns are named alike: {', '.join(map(str, given.columns[given.columns.duplicated()]))}")
    if EVENT_TIMESTAMP in given.columns and len(given) and given[EVENT_TIMESTAMP].dtype == object:
        values = given[EVENT_TIMESTAMP]
        if values.isna().any():
            raise _nulls(int(values.isna().sum()))
        zones = {str(getattr(value, "tzinfo", None)) for value in values}
        found = f"the time zones {', '.join(sorted(zones))}" if len(zones) > 1 else f"{type(values.iloc[0]).__name__}s"
        raise EntityFrameError(
            f"Column {EVENT_TIMESTAMP!r} of the entity frame mixes or hides its type: it holds {found}.\n"
            f"Hint: frame[{EVENT_TIMESTAMP!r}] = pd.to_datetime(frame[{EVENT_TIMESTAMP!r}], utc=True)."
        )
    return pl.from_pandas(given)


def _check_timestamps(moments: pl.Series) -> None:
    if moments.null_count():
        raise _nulls(moments.null_count())
    kind = moments.dtype
    if not isinstance(kind, pl.Datetime):
        raise EntityFrameError(
            f"Column {EVENT_TIMESTAMP!r} of the entity frame is {kind}, not a timestamp with a time zone.\n"
            "Hint: parse it, and say its zone: pl.col(...).str.to_datetime().dt.replace_time_zone('UTC')."
        )
    if kind.time_zone is None:
        raise EntityFrameError(
            f"Column {EVENT_TIMESTAMP!r} of the entity frame has no time zone, so its moments are not known.\n"
            f"Hint: if they are UTC: frame.with_columns(pl.col({EVENT_TIMESTAMP!r}).dt.replace_time_zone('UTC'))."
        )


def _nulls(count: int) -> EntityFrameError:
    return EntityFrameError(
        f"{count} rows have no {EVENT_TIMESTAMP!r}.\nHint: drop or complete them: the moment decides what is known."
    )


def _is_comparable(given: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether values of both types can be the same: whole numbers with whole numbers, text with text."""
    if given in (pl.Null, wanted) or (given.is_integer() and wanted.is_integer()):
        return True
    texts = (pl.String, pl.Categorical, pl.Enum)
    return isinstance(given, texts) and isinstance(wanted, texts)
