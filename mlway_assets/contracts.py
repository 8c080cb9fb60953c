"""pandera contracts of the curated tables. A contract holds for every row that was not quarantined."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.sources import EVENT_DAY, SourceTable
from feature_repo.column_types import POLARS_TYPES
from feature_repo.expressions import parse

if TYPE_CHECKING:
    import pandera.polars as pa
    import polars as pl


Contract = Callable[[], "pa.DataFrameSchema"]
"""Gives a contract; pandera loads when it is called."""


@dataclass(frozen=True)
class Violations:
    """What in a table breaks its contract: rows by number, each with its first reason, and what concerns no one row."""

    rows: Mapping[int, str]
    of_the_whole: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.rows or self.of_the_whole)


def violations(contract: Contract, frame: "pl.DataFrame") -> Violations:
    """What in `frame` breaks the contract."""
    import pandera.errors

    try:
        contract().validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        rows: dict[int, str] = {}
        whole: list[str] = []
        for case in error.failure_cases.iter_rows(named=True):
            reason = f"contract: {case['column'] or 'row'} breaks {case['check']}"
            if case["index"] is None:
                whole.append(reason)
            else:
                rows.setdefault(int(case["index"]), reason)
        return Violations(rows, tuple(dict.fromkeys(whole)))
    return Violations({}, ())


def _moment() -> "pl.DataType":
    import polars as pl

    return pl.Datetime("us", "UTC")


def fact_flights() -> "pa.DataFrameSchema":
    """The contract of `fact_flights`."""
    import pandera.polars as pa
    import polars as pl

    known_after = pa.Check(
        lambda data: data.lazyframe.select(
            (pl.col("outcome") == "cancelled") | (pl.col("departure_known_at") == pl.col("actual_departure"))
        ),
        name="a departure is known when it happens",
    )
    labels_known = pa.Check(
        lambda data: data.lazyframe.select(
            (pl.col("outcome") != "arrived") | (pl.col("arrival_known_at") == pl.col("actual_arrival"))
        ),
        name="an arrival is known when it happens",
    )
    in_order = pa.Check(
        lambda data: data.lazyframe.select(pl.col("scheduled_departure") < pl.col("scheduled_arrival")),
        name="arrival is scheduled after departure",
    )
    return pa.DataFrameSchema(
        {
            "event_day": pa.Column(pl.Date),
            "carrier": pa.Column(pl.String, pa.Check.str_length(2, 3)),
            "flight": pa.Column(pl.Int64, pa.Check.gt(0)),
            "tailnum": pa.Column(pl.String, nullable=True),
            "origin": pa.Column(pl.String, pa.Check.str_length(3, 3)),
            "dest": pa.Column(pl.String, pa.Check.str_length(3, 3)),
            "distance_miles": pa.Column(pl.Int64, pa.Check.in_range(1, 12_000)),
            "scheduled_departure": pa.Column(_moment()),
            "scheduled_arrival": pa.Column(_moment()),
            "actual_departure": pa.Column(_moment(), nullable=True),
            "actual_arrival": pa.Column(_moment(), nullable=True),
            "departure_delay_minutes": pa.Column(pl.Int64, pa.Check.in_range(-180, 2_880), nullable=True),
            "arrival_delay_minutes": pa.Column(pl.Int64, pa.Check.in_range(-360, 2_880), nullable=True),
            "air_time_minutes": pa.Column(pl.Int64, pa.Check.in_range(1, 1_200), nullable=True),
            "outcome": pa.Column(pl.String, pa.Check.isin(["arrived", "cancelled", "diverted"])),
            "departure_known_at": pa.Column(_moment()),
            "arrival_known_at": pa.Column(_moment()),
        },
        checks=[known_after, labels_known, in_order],
        unique=["carrier", "flight", "origin", "dest", "scheduled_departure"],
        strict=True,
    )


def fact_weather() -> "pa.DataFrameSchema":
    """The contract of `fact_weather`."""
    import pandera.polars as pa
    import polars as pl

    def measured(low: float, high: float) -> "pa.Column":
        return pa.Column(pl.Float64, pa.Check.in_range(low, high), nullable=True)

    return pa.DataFrameSchema(
        {
            "event_day": pa.Column(pl.Date),
            "origin": pa.Column(pl.String, pa.Check.str_length(3, 3)),
            "observed_at": pa.Column(_moment()),
            "known_at": pa.Column(_moment()),
            "temperature_fahrenheit": measured(-60, 130),
            "dew_point_fahrenheit": measured(-80, 100),
            "relative_humidity_percent": measured(0, 100),
            "wind_direction_degrees": pa.Column(pl.Int64, pa.Check.in_range(0, 360), nullable=True),
            "wind_speed_mph": measured(0, 250),
            "wind_gust_mph": measured(0, 250),
            "precipitation_inches": measured(0, 20),
            "pressure_millibars": measured(850, 1_100),
            "visibility_miles": measured(0, 100),
        },
        unique=["origin", "observed_at"],
        strict=True,
    )


def dim_aircraft() -> "pa.DataFrameSchema":
    """The contract of `dim_aircraft`."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "tailnum": pa.Column(pl.String, unique=True),
            "year_built": pa.Column(pl.Int64, pa.Check.in_range(1903, 2100), nullable=True),
            "type": pa.Column(pl.String, nullable=True),
            "manufacturer": pa.Column(pl.String, nullable=True),
            "model": pa.Column(pl.String, nullable=True),
            "engines": pa.Column(pl.Int64, pa.Check.in_range(1, 8), nullable=True),
            "seats": pa.Column(pl.Int64, pa.Check.in_range(1, 1_000), nullable=True),
            "engine": pa.Column(pl.String, nullable=True),
        },
        strict=True,
    )


def dim_airport() -> "pa.DataFrameSchema":
    """The contract of `dim_airport`."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "airport": pa.Column(pl.String, pa.Check.str_length(3, 4), unique=True),
            "name": pa.Column(pl.String, nullable=True),
            "latitude": pa.Column(pl.Float64, pa.Check.in_range(-90, 90)),
            "longitude": pa.Column(pl.Float64, pa.Check.in_range(-180, 180)),
            "altitude_feet": pa.Column(pl.Int64, pa.Check.in_range(-1_500, 20_000), nullable=True),
            "time_zone": pa.Column(pl.String, pa.Check.str_contains("/")),
        },
        strict=True,
    )


def dim_carrier() -> "pa.DataFrameSchema":
    """The contract of `dim_carrier`."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {"carrier": pa.Column(pl.String, pa.Check.str_length(2, 3), unique=True), "name": pa.Column(pl.String)},
        strict=True,
    )


def declared(table: SourceTable) -> "pa.DataFrameSchema":
    """The contract of the curated table that a source file declares: its types, what must be there, checks and key."""
    import pandera.polars as pa
    import polars as pl

    rules = table.curated.checks if table.curated else {}
    days = {EVENT_DAY: pa.Column(pl.Date)} if table.is_partitioned else {}
    columns = {
        name: pa.Column(POLARS_TYPES[column.type], nullable=name not in table.required_columns)
        for name, column in table.curated_columns.items()
    }
    return pa.DataFrameSchema(
        days | columns,
        checks=[_condition(name, condition) for name, condition in rules.items()],
        unique=[*days, *(table.curated.key if table.curated else ())],
        strict=True,
    )


def _condition(name: str, condition: str) -> "pa.Check":
    import pandera.polars as pa

    is_met = parse(condition).fill_null(value=True)
    return pa.Check(lambda data: data.lazyframe.select(is_met.alias(name)), name=name)
