"""The one implementation of every feature that is read from a table.

`feature_values` turns a curated table into a step function for each entity: one row at every moment at which a
value changes. A point-in-time join on it gives the value at any moment T exactly, for training and for serving.

Windows are (T - w, T]. A row enters a window when it becomes known and leaves it w later, so both moments are
change points. Sums run over whole numbers, whose order of addition does not matter: the result is the same to the
last bit however the rows are split.
"""

from datetime import UTC, datetime, timedelta

import polars as pl

from configs.errors import ConfigError
from configs.features import Aggregation, LatestFeatures, StaticFeatures, TableFeatures, WindowedFeatures
from configs.schema import format_duration
from feature_repo.column_types import POLARS_TYPES

EVENT_TIMESTAMP = "event_timestamp"
ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
"""Event timestamp of static attributes: known at every moment that data is about."""


def feature_values(group: TableFeatures, table: pl.LazyFrame) -> pl.LazyFrame:
    """The group's values over all history.

    Columns: the join keys, `event_timestamp` (UTC microseconds), one for each feature; unique by keys and timestamp,
    sorted by timestamp. Rows of `table` with a null join key or a null `known_at` are left out.
    """
    rows = table if group.where is None else table.filter(pl.sql_expr(group.where))
    rows = rows.drop_nulls(list(group.join_keys))
    if isinstance(group, WindowedFeatures):
        values = _windowed(group, rows.drop_nulls(group.known_at))
    elif isinstance(group, LatestFeatures):
        values = _from_rows(group, rows.drop_nulls(group.known_at), pl.col(group.known_at))
    else:
        values = _from_rows(group, rows, pl.lit(ALWAYS, pl.Datetime("us", "UTC")))
    typed = [pl.col(name).cast(POLARS_TYPES[kind]) for name, kind in group.types.items()]
    return values.select(*group.join_keys, EVENT_TIMESTAMP, *typed).sort(EVENT_TIMESTAMP, *group.join_keys)


def _from_rows(group: LatestFeatures | StaticFeatures, rows: pl.LazyFrame, timestamp: pl.Expr) -> pl.LazyFrame:
    keys = list(group.join_keys)
    expressions = [pl.sql_expr(feature.expression).alias(name) for name, feature in group.features.items()]
    values = rows.select(*keys, timestamp.alias(EVENT_TIMESTAMP), *expressions)
    # Sorted by every column first, so that of two rows with one timestamp always the same one wins.
    ordered = values.sort(EVENT_TIMESTAMP, *keys, *group.types)
    return ordered.unique([*keys, EVENT_TIMESTAMP], keep="last", maintain_order=True)


def _windowed(group: WindowedFeatures, rows: pl.LazyFrame) -> pl.LazyFrame:
    keys = list(group.join_keys)
    inputs = _inputs(group)
    _check_whole_numbers(group, rows)
    events = rows.select(*keys, pl.col(group.known_at).alias(EVENT_TIMESTAMP), **inputs).sort(
        EVENT_TIMESTAMP, *keys, *inputs
    )
    values = _change_points(events, keys, group.windows)
    cumulative = _cumulative(events, keys, list(inputs), group)
    values = _as_of(values, cumulative, keys, EVENT_TIMESTAMP, "_now")
    for window in group.windows:
        values = values.with_columns((pl.col(EVENT_TIMESTAMP) - window).alias("_start"))
        values = _as_of(values, cumulative, keys, "_start", "_before")
        values = _with_extremes(values, events, keys, group, window)
        values = values.with_columns(
            _statistic(name, aggregation).alias(f"{name}_{format_duration(window)}")
            for name, aggregation in group.aggregations.items()
        ).select(pl.exclude("^.*_before$", "_start", "^_extreme_.*$"))
    return values


def _inputs(group: WindowedFeatures) -> dict[str, pl.Expr]:
    """One whole-number column for each aggregation that has an argument."""
    return {
        name: pl.sql_expr(aggregation.of).cast(pl.Int64)
        for name, aggregation in group.aggregations.items()
        if aggregation.of is not None
    }


def _check_whole_numbers(group: WindowedFeatures, rows: pl.LazyFrame) -> None:
    """Truncating fractions would give wrong numbers without a word."""
    parsed = {name: pl.sql_expr(a.of) for name, a in group.aggregations.items() if a.of is not None}
    for name, kind in rows.select(**parsed).collect_schema().items():
        if not (kind.is_integer() or kind == pl.Boolean):
            raise ConfigError(
                f"features/{group.name}.yaml",
                f"aggregations.{name}.of",
                f"gives {kind}, not whole numbers or a condition",
                "count in a smaller unit: CAST(ROUND(100 * value) AS BIGINT) for hundredths.",
            )


def _change_points(events: pl.LazyFrame, keys: list[str], windows: tuple[timedelta, ...]) -> pl.LazyFrame:
    """Each moment at which a row enters or leaves a window of its entity."""
    moments = events.select(*keys, EVENT_TIMESTAMP)
    leaving = [moments.with_columns(pl.col(EVENT_TIMESTAMP) + window) for window in windows]
    return pl.concat([moments, *leaving]).unique().sort(EVENT_TIMESTAMP, *keys)


def _cumulative(events: pl.LazyFrame, keys: list[str], inputs: list[str], group: WindowedFeatures) -> pl.LazyFrame:
    """Running counts and sums of each entity since the beginning; differences of two of them give a window."""
    columns = [pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(keys).alias("rows")]
    for name in inputs:
        value = pl.col(name)
        columns += [
            value.is_not_null().cast(pl.Int64).cum_sum().over(keys).alias(f"{name}_count"),
            value.fill_null(0).cum_sum().over(keys).alias(f"{name}_sum"),
        ]
        if group.aggregations[name].function == "standard_deviation":
            columns.append((value.cast(pl.Int128) * value).fill_null(0).cum_sum().over(keys).alias(f"{name}_squares"))
        if group.aggregations[name].function == "last":
            columns.append(value.forward_fill().over(keys).alias(f"{name}_last"))
    running = events.select(*keys, EVENT_TIMESTAMP, *columns)
    return running.unique([*keys, EVENT_TIMESTAMP], keep="last", maintain_order=True)


def _as_of(left: pl.LazyFrame, cumulative: pl.LazyFrame, keys: list[str], at: str, suffix: str) -> pl.LazyFrame:
    """`left` with the running totals as they were at the moment in column `at`, named with `suffix`."""
    named = cumulative.rename(
        lambda column: column if column in keys else "_moment" if column == EVENT_TIMESTAMP else column + suffix
    )
    return left.join_asof(
        named, left_on=at, right_on="_moment", by=keys, strategy="backward", check_sortedness=False
    ).drop("_moment", strict=False)


def _within(name: str, total: str) -> pl.Expr:
    """The total's growth inside the window."""
    return pl.col(f"{name}_{total}_now") - pl.col(f"{name}_{total}_before").fill_null(0)


def _statistic(name: str, aggregation: Aggregation) -> pl.Expr:
    if aggregation.function == "count":
        return pl.col("rows_now") - pl.col("rows_before").fill_null(0)
    count = _within(name, "count")
    total = _within(name, "sum")
    known = pl.when(count > 0)
    if aggregation.function == "sum":
        return known.then(total)
    if aggregation.function in ("mean", "rate"):
        return known.then(total / count)
    if aggregation.function == "standard_deviation":
        # Sample deviation by whole numbers: (n * sum(x^2) - sum(x)^2) / (n * (n - 1)).
        numerator = count * _within(name, "squares") - total.cast(pl.Int128) * total
        return pl.when(count > 1).then((numerator / (count * (count - 1))).sqrt())
    if aggregation.function == "last":
        return known.then(pl.col(f"{name}_last_now"))
    return known.then(pl.col(f"_extreme_{name}"))


def _with_extremes(
    values: pl.LazyFrame, events: pl.LazyFrame, keys: list[str], group: WindowedFeatures, window: timedelta
) -> pl.LazyFrame:
    """`values` with the least and greatest value in the window of each aggregation that asks for it."""
    asked = {name: a for name, a in group.aggregations.items() if a.function in ("minimum", "maximum")}
    if not asked:
        return values
    # Change points carry nulls, which extremes ignore; they only make the window end there.
    every_moment = pl.concat(
        [events.select(*keys, EVENT_TIMESTAMP, *asked), values.select(*keys, EVENT_TIMESTAMP)], how="diagonal"
    )
    extremes = (
        every_moment.sort(EVENT_TIMESTAMP, *keys)
        .rolling(EVENT_TIMESTAMP, period=window, closed="right", group_by=keys)
        .agg(
            (pl.col(name).min() if a.function == "minimum" else pl.col(name).max()).alias(f"_extreme_{name}")
            for name, a in asked.items()
        )
        .unique([*keys, EVENT_TIMESTAMP], keep="last")
    )
    return values.join(extremes, on=[*keys, EVENT_TIMESTAMP], how="left", maintain_order="left")
