"""Statistics of the rows in windows (T - w, T], at any moments T.

Sums run over whole numbers, whose order of addition does not matter, and differences of two running totals give a
window: the result is the same to the last bit however the rows are split. What the rows and the moments are is decided
in aggregations.py and incremental.py.
"""

from datetime import timedelta

import polars as pl

from configs.errors import ConfigError
from configs.features import ARITHMETIC, SELECTIONS, Aggregation, WindowedFeatures
from configs.schema import format_duration
from feature_repo.column_types import POLARS_TYPES
from feature_repo.expressions import parse

EVENT_TIMESTAMP = "event_timestamp"
_INPUT, _COUNT, _SUM, _SQUARES, _LAST, _FIRST = "__input_", "__count_", "__sum_", "__squares_", "__last_", "__first_"
_ROWS, _START = "__rows", "__start"
_NOW, _BEFORE = "__now", "__before"


def input_columns(group: WindowedFeatures, rows: pl.LazyFrame) -> dict[str, pl.Expr]:
    """The columns that `window_values` reads, as expressions over the table's. Raises ConfigError."""
    inputs: dict[str, pl.Expr] = {}
    for name, aggregation in group.aggregations.items():
        if aggregation.of is not None:
            value = parse(aggregation.of)
            kind = rows.select(value.alias("value")).collect_schema()["value"]
            value = _typed(group, name, aggregation, value, kind)
        elif aggregation.where is not None:
            value = pl.lit(1, pl.Int64)
        else:
            continue
        if aggregation.where is not None:
            value = pl.when(parse(aggregation.where)).then(value)
        inputs[_INPUT + name] = value
    return inputs


def _typed(group: WindowedFeatures, name: str, aggregation: Aggregation, value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """The value in the type that its function works in. What would lose digits without a word is refused."""
    if kind.is_decimal():
        value, kind = value.cast(pl.Float64), pl.Float64()
    if kind.is_float():
        value = clean_float(pl.when(value.is_finite()).then(value))
    if aggregation.function in SELECTIONS:
        wanted = POLARS_TYPES[aggregation.type]
        if kind.is_float() and wanted.is_integer():
            raise _refusal(group, name, f"gives {kind}, which does not fit int64", "set value_type: float64.")
        return value.cast(wanted)
    if aggregation.function == "quantile":
        if not kind.is_numeric():
            raise _refusal(group, name, f"gives {kind}, of which there is no quantile", "give a number.")
        return value
    if aggregation.function == "distinct_count":
        return value
    if aggregation.decimals is not None:
        return (value * float(10**aggregation.decimals)).round().cast(pl.Int64)
    if not (kind.is_integer() or kind == pl.Boolean):
        what = "a condition" if aggregation.function == "rate" else "whole numbers"
        raise _refusal(
            group, name, f"gives {kind}, not {what}", "set `decimals`, to which each value is rounded before it counts."
        )
    return value.cast(pl.Int64)


def clean_float(value: pl.Expr) -> pl.Expr:
    """The floats with one zero: -0.0 and 0.0 are equal, so which of two is met first would decide the bits."""
    return pl.when(value == 0).then(0.0).otherwise(value)


def _refusal(group: WindowedFeatures, name: str, problem: str, hint: str) -> ConfigError:
    return ConfigError(f"features/{group.name}.yaml", f"aggregations.{name}.of", problem, hint)


def window_values(group: WindowedFeatures, events: pl.LazyFrame, moments: pl.LazyFrame) -> pl.LazyFrame:
    """Every feature of the group at every moment.

    `events`: the join keys, `event_timestamp`, the columns of `input_columns`. `moments`: the join keys,
    `event_timestamp`, unique. Returns the moments with the features added, sorted by timestamp and keys.
    """
    keys = list(group.join_keys)
    per_moment = _per_moment(group, events, keys)
    totals = _running_totals(group, per_moment, keys)
    values = _as_of(moments.sort(EVENT_TIMESTAMP, *keys), totals, keys, EVENT_TIMESTAMP, _NOW)
    for window in group.windows:
        values = values.with_columns((pl.col(EVENT_TIMESTAMP) - window).alias(_START))
        values = _as_of(values, totals, keys, _START, _BEFORE)
        values = _with_firsts(values, per_moment, keys, group)
        values = _with_distinct_counts(values, events, keys, group, window)
        values = _with_order_statistics(values, events, keys, group, window)
        values = values.with_columns(
            _statistic(name, a).cast(POLARS_TYPES[a.type]).alias(f"{name}_{format_duration(window)}")
            for name, a in group.aggregations.items()
        ).select(pl.exclude(f"^.*{_BEFORE}$", _START, "^__found_.*$"))
    return values


def _named(group: WindowedFeatures, *functions: str) -> dict[str, Aggregation]:
    return {name: a for name, a in group.aggregations.items() if a.function in functions}


def _per_moment(group: WindowedFeatures, events: pl.LazyFrame, keys: list[str]) -> pl.LazyFrame:
    """Rows of one entity and timestamp as one row. Of equal timestamps `last` takes the greatest, `first` the least."""
    columns = [pl.len().cast(pl.Int64).alias(_ROWS)]
    for name, aggregation in group.aggregations.items():
        value = pl.col(_INPUT + name)
        if aggregation.of is not None or aggregation.where is not None:
            columns.append(value.count().cast(pl.Int64).alias(_COUNT + name))
        if aggregation.function in (*ARITHMETIC, "rate"):
            # Wide enough for any number of rows; Int64 would wrap around without a word.
            columns.append(value.cast(pl.Int128).sum().alias(_SUM + name))
        if aggregation.function == "standard_deviation":
            columns.append((value.cast(pl.Int128) * value).sum().alias(_SQUARES + name))
        if aggregation.function == "last":
            columns.append(value.max().alias(_LAST + name))
        if aggregation.function == "first":
            columns.append(value.min().alias(_FIRST + name))
    return events.group_by(*keys, EVENT_TIMESTAMP).agg(columns).sort(EVENT_TIMESTAMP, *keys)


def _running_totals(group: WindowedFeatures, per_moment: pl.LazyFrame, keys: list[str]) -> pl.LazyFrame:
    """Totals of each entity since the beginning, and the last value so far."""
    lasts = [_LAST + name for name in _named(group, "last")]
    firsts = [_FIRST + name for name in _named(group, "first")]
    summed = pl.exclude(*keys, EVENT_TIMESTAMP, *lasts, *firsts)
    return per_moment.select(
        *keys, EVENT_TIMESTAMP, summed.cum_sum().over(keys), *(pl.col(last).forward_fill().over(keys) for last in lasts)
    )


def _as_of(left: pl.LazyFrame, totals: pl.LazyFrame, keys: list[str], at: str, suffix: str) -> pl.LazyFrame:
    """`left` with the running totals as they were at the moment in column `at`, named with `suffix`."""
    named = totals.rename(
        lambda column: column if column in keys else "__moment" if column == EVENT_TIMESTAMP else column + suffix
    )
    return left.join_asof(
        named, left_on=at, right_on="__moment", by=keys, strategy="backward", check_sortedness=False
    ).drop("__moment", strict=False)


def _with_firsts(
    values: pl.LazyFrame, per_moment: pl.LazyFrame, keys: list[str], group: WindowedFeatures
) -> pl.LazyFrame:
    """`values` with the first value after the window's start. Whether it lies inside, the count says."""
    asked = list(_named(group, "first"))
    if not asked:
        return values
    following = per_moment.select(
        *keys,
        pl.col(EVENT_TIMESTAMP).alias("__moment"),
        *(pl.col(_FIRST + name).backward_fill().over(keys).alias(f"__found_{name}") for name in asked),
    )
    return values.join_asof(
        following,
        left_on=_START,
        right_on="__moment",
        by=keys,
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    ).drop("__moment", strict=False)


def _with_distinct_counts(
    values: pl.LazyFrame, events: pl.LazyFrame, keys: list[str], group: WindowedFeatures, window: timedelta
) -> pl.LazyFrame:
    """`values` with the number of different values in the window.

    A value counts from each of its occurrences until the next one, or until that occurrence leaves the window.
    """
    for name in _named(group, "distinct_count"):
        value = _INPUT + name
        seen = events.select(*keys, EVENT_TIMESTAMP, value).drop_nulls(value).unique().sort(EVENT_TIMESTAMP)
        following = pl.col(EVENT_TIMESTAMP).shift(-1).over([*keys, value])
        leaving = pl.min_horizontal(following, pl.col(EVENT_TIMESTAMP) + window)
        steps = pl.concat(
            [
                seen.select(*keys, EVENT_TIMESTAMP, pl.lit(1, pl.Int64).alias(f"__found_{name}")),
                seen.select(*keys, leaving.alias(EVENT_TIMESTAMP), pl.lit(-1, pl.Int64).alias(f"__found_{name}")),
            ]
        )
        alive = (
            steps.group_by(*keys, EVENT_TIMESTAMP)
            .agg(pl.col(f"__found_{name}").sum())
            .sort(EVENT_TIMESTAMP, *keys)
            .with_columns(pl.col(f"__found_{name}").cum_sum().over(keys))
        )
        values = _as_of(values, alive, keys, EVENT_TIMESTAMP, "")
    return values


def _with_order_statistics(
    values: pl.LazyFrame, events: pl.LazyFrame, keys: list[str], group: WindowedFeatures, window: timedelta
) -> pl.LazyFrame:
    """`values` with the least and greatest values and the quantiles in the window."""
    asked = _named(group, "minimum", "maximum", "quantile")
    if not asked:
        return values
    # Moments carry nulls, which these statistics ignore; they only make the window end there.
    every_moment = pl.concat(
        [
            events.select(*keys, EVENT_TIMESTAMP, *(_INPUT + name for name in asked)),
            values.select(*keys, EVENT_TIMESTAMP),
        ],
        how="diagonal",
    )
    found = (
        every_moment.sort(EVENT_TIMESTAMP, *keys)
        .rolling(EVENT_TIMESTAMP, period=window, closed="right", group_by=keys)
        .agg(_order_statistic(pl.col(_INPUT + name), a).alias(f"__found_{name}") for name, a in asked.items())
        .unique([*keys, EVENT_TIMESTAMP], keep="last")
    )
    return values.join(found, on=[*keys, EVENT_TIMESTAMP], how="left", maintain_order="left")


def _order_statistic(value: pl.Expr, aggregation: Aggregation) -> pl.Expr:
    if aggregation.function == "quantile":
        return value.quantile(aggregation.quantile or 0.0, interpolation="linear")
    return value.min() if aggregation.function == "minimum" else value.max()


def _within(total: str) -> pl.Expr:
    """The total's growth inside the window."""
    return pl.col(total + _NOW).fill_null(0) - pl.col(total + _BEFORE).fill_null(0)


def _statistic(name: str, aggregation: Aggregation) -> pl.Expr:
    function = aggregation.function
    if function == "count":
        return _within(_ROWS if aggregation.where is None else _COUNT + name)
    if function == "distinct_count":
        return pl.col(f"__found_{name}").fill_null(0)
    count = _within(_COUNT + name)
    if function in (*ARITHMETIC, "rate"):
        return _arithmetic(name, aggregation, count)
    return pl.when(count > 0).then(pl.col(_LAST + name + _NOW if function == "last" else f"__found_{name}"))


def _arithmetic(name: str, aggregation: Aggregation, count: pl.Expr) -> pl.Expr:
    total = _within(_SUM + name)
    # A column, not a constant: see exact_division.py.
    scale = count * 0 + 10 ** (aggregation.decimals or 0)
    if aggregation.function == "sum":
        return pl.when(count > 0).then(total if aggregation.decimals is None else total / scale)
    if aggregation.function == "standard_deviation":
        # Sample deviation by whole numbers: (n * sum(x^2) - sum(x)^2) / (n * (n - 1)).
        numerator = count * _within(_SQUARES + name) - total * total
        return pl.when(count > 1).then((numerator / (count * (count - 1))).sqrt() / scale)
    return pl.when(count > 0).then(total / (count * scale))
