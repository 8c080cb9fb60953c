"""Raw snapshots to the dimensions: aircraft, airports and carriers."""

import polars as pl

from mlway_assets.compute.quarantine import Curated, split_by_rules

FIRST_POWERED_FLIGHT = 1903
AIRCRAFT_SCHEMA: dict[str, pl.DataType] = {
    "tailnum": pl.String(),
    "year_built": pl.Int64(),
    "type": pl.String(),
    "manufacturer": pl.String(),
    "model": pl.String(),
    "engines": pl.Int64(),
    "seats": pl.Int64(),
    "engine": pl.String(),
}
AIRPORT_SCHEMA: dict[str, pl.DataType] = {
    "airport": pl.String(),
    "name": pl.String(),
    "latitude": pl.Float64(),
    "longitude": pl.Float64(),
    "altitude_feet": pl.Int64(),
    "time_zone": pl.String(),
}
CARRIER_SCHEMA: dict[str, pl.DataType] = {"carrier": pl.String(), "name": pl.String()}


def curate_aircraft(planes: pl.DataFrame) -> Curated:
    """One row per tail number."""
    typed = planes.with_columns(pl.col("year").alias("year_built"))
    rules = {
        "no tail number": pl.col("tailnum").is_null(),
        "the same tail number twice": pl.col("tailnum").is_duplicated(),
        "built before aircraft were": pl.col("year") < FIRST_POWERED_FLIGHT,
    }
    return split_by_rules(typed, rules, list(AIRCRAFT_SCHEMA), planes.columns)


def curate_airports(airports: pl.DataFrame, supplement: pl.DataFrame) -> Curated:
    """One row per airport with a time zone; an airport in both tables is taken from the first."""
    raw = pl.concat([airports, supplement.join(airports, on="faa", how="anti")], how="diagonal")
    typed = raw.with_columns(
        pl.col("faa").alias("airport"),
        pl.col("lat").alias("latitude"),
        pl.col("lon").alias("longitude"),
        pl.col("alt").alias("altitude_feet"),
        pl.col("tzone").alias("time_zone"),
    )
    rules = {
        "no code or no time zone": pl.col("faa").is_null() | pl.col("tzone").is_null(),
        "the same airport twice": pl.col("faa").is_duplicated(),
    }
    return split_by_rules(typed, rules, list(AIRPORT_SCHEMA), airports.columns)


def curate_carriers(airlines: pl.DataFrame) -> Curated:
    """One row per carrier."""
    rules = {
        "no code or no name": pl.col("carrier").is_null() | pl.col("name").is_null(),
        "the same carrier twice": pl.col("carrier").is_duplicated(),
    }
    return split_by_rules(airlines, rules, list(CARRIER_SCHEMA), airlines.columns)
