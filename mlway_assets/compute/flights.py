"""Raw flights to `fact_flights`: typed, in UTC, each value with the moment at which it became known."""

import polars as pl

from mlway_assets.compute.quarantine import Curated, split_by_rules
from mlway_assets.compute.times import UTC_MICROSECONDS, clock_at, local_moment

SCHEMA: dict[str, pl.DataType] = {
    "event_day": pl.Date(),
    "carrier": pl.String(),
    "flight": pl.Int64(),
    "tailnum": pl.String(),
    "origin": pl.String(),
    "dest": pl.String(),
    "distance_miles": pl.Int64(),
    "scheduled_departure": UTC_MICROSECONDS,
    "scheduled_arrival": UTC_MICROSECONDS,
    "actual_departure": UTC_MICROSECONDS,
    "actual_arrival": UTC_MICROSECONDS,
    "departure_delay_minutes": pl.Int64(),
    "arrival_delay_minutes": pl.Int64(),
    "air_time_minutes": pl.Int64(),
    "outcome": pl.String(),
    "departure_known_at": UTC_MICROSECONDS,
    "arrival_known_at": UTC_MICROSECONDS,
}
KEY = ["carrier", "flight", "origin", "dest", "scheduled_departure"]


def curate_flights(raw: pl.DataFrame, airports: pl.DataFrame) -> Curated:
    """One row per scheduled departure. `airports` has `airport` and `time_zone`.

    Delays count elapsed minutes, so actual = scheduled + delay in UTC; the recorded clock times must then agree, across
    midnight and both clock changes. The scheduled arrival is the first moment after the scheduled departure at which
    the destination's clocks show the scheduled time.
    """
    zones = airports["time_zone"].unique().sort().to_list()
    timed = _with_moments(_with_zones(raw, airports), zones)
    known = timed.with_columns(
        _outcome().alias("outcome"),
        pl.col("distance").alias("distance_miles"),
        pl.col("dep_delay").alias("departure_delay_minutes"),
        pl.col("arr_delay").alias("arrival_delay_minutes"),
        pl.col("air_time").alias("air_time_minutes"),
    ).with_columns(*_known_at())
    return split_by_rules(known, _rules(zones), list(SCHEMA), raw.columns)


def _with_zones(raw: pl.DataFrame, airports: pl.DataFrame) -> pl.DataFrame:
    zones = airports.select("airport", "time_zone")
    return raw.join(zones, left_on="origin", right_on="airport", how="left", maintain_order="left").join(
        zones, left_on="dest", right_on="airport", how="left", suffix="_dest", maintain_order="left"
    )


def _with_moments(flights: pl.DataFrame, zones: list[str]) -> pl.DataFrame:
    day, next_day = pl.col("event_day"), pl.col("event_day") + pl.duration(days=1)
    departure = local_moment(day, pl.col("sched_dep_time"), pl.col("time_zone"), zones)
    same_day = local_moment(day, pl.col("sched_arr_time"), pl.col("time_zone_dest"), zones)
    day_after = local_moment(next_day, pl.col("sched_arr_time"), pl.col("time_zone_dest"), zones)
    return (
        flights.with_columns(departure.alias("scheduled_departure"))
        .with_columns(
            pl.when(same_day.is_null() | (same_day > pl.col("scheduled_departure")))
            .then(same_day)
            .otherwise(day_after)
            .alias("scheduled_arrival")
        )
        .with_columns(
            (pl.col("scheduled_departure") + pl.duration(minutes="dep_delay")).alias("actual_departure"),
            (pl.col("scheduled_arrival") + pl.duration(minutes="arr_delay")).alias("actual_arrival"),
        )
    )


def _outcome() -> pl.Expr:
    return (
        pl.when(pl.col("dep_time").is_null())
        .then(pl.lit("cancelled"))
        .when(pl.col("arr_delay").is_null())
        .then(pl.lit("diverted"))
        .otherwise(pl.lit("arrived"))
    )


def _known_at() -> list[pl.Expr]:
    """A cancellation is known once its departure time has passed; a diversion, once its arrival time has."""
    not_departed = pl.col("outcome") == "cancelled"
    diverted = pl.max_horizontal("actual_departure", "scheduled_arrival")
    return [
        pl.when(not_departed)
        .then(pl.col("scheduled_departure"))
        .otherwise(pl.col("actual_departure"))
        .alias("departure_known_at"),
        pl.when(not_departed)
        .then(pl.col("scheduled_departure"))
        .when(pl.col("outcome") == "diverted")
        .then(diverted)
        .otherwise(pl.col("actual_arrival"))
        .alias("arrival_known_at"),
    ]


def _rules(zones: list[str]) -> dict[str, pl.Expr]:
    departure_clock = clock_at(pl.col("actual_departure"), pl.col("time_zone"), zones)
    arrival_clock = clock_at(pl.col("actual_arrival"), pl.col("time_zone_dest"), zones)
    gate_to_gate = (pl.col("actual_arrival") - pl.col("actual_departure")).dt.total_minutes()
    return {
        "origin or destination is not a known airport with a time zone": pl.col("time_zone").is_null()
        | pl.col("time_zone_dest").is_null(),
        "a required value is missing": pl.any_horizontal(
            pl.col("carrier", "flight", "sched_dep_time", "sched_arr_time", "distance").is_null()
        ),
        "the scheduled time does not exist on that day": pl.col("scheduled_departure").is_null()
        | pl.col("scheduled_arrival").is_null(),
        "departed without a delay, or has a delay without departing": pl.col("dep_time").is_null()
        != pl.col("dep_delay").is_null(),
        "arrived without departing": pl.col("dep_time").is_null() & pl.col("arr_delay").is_not_null(),
        "departure time contradicts departure delay": departure_clock != pl.col("dep_time") % 2400,
        "arrival time contradicts arrival delay": arrival_clock != pl.col("arr_time") % 2400,
        "in the air for longer than from gate to gate": pl.col("air_time") > gate_to_gate,
        "the same flight twice": pl.struct(KEY).is_duplicated(),
    }
