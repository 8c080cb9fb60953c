"""Raw weather to `fact_weather`: measurements within physical bounds, known an hour after the hour they are of."""

import polars as pl

from mlway_assets.compute.quarantine import Curated, split_by_rules
from mlway_assets.compute.times import UTC_MICROSECONDS

SCHEMA: dict[str, pl.DataType] = {
    "event_day": pl.Date(),
    "origin": pl.String(),
    "observed_at": UTC_MICROSECONDS,
    "known_at": UTC_MICROSECONDS,
    "temperature_fahrenheit": pl.Float64(),
    "dew_point_fahrenheit": pl.Float64(),
    "relative_humidity_percent": pl.Float64(),
    "wind_direction_degrees": pl.Int64(),
    "wind_speed_mph": pl.Float64(),
    "wind_gust_mph": pl.Float64(),
    "precipitation_inches": pl.Float64(),
    "pressure_millibars": pl.Float64(),
    "visibility_miles": pl.Float64(),
}
_NAMES = {
    "temp": "temperature_fahrenheit",
    "dewp": "dew_point_fahrenheit",
    "humid": "relative_humidity_percent",
    "wind_dir": "wind_direction_degrees",
    "wind_speed": "wind_speed_mph",
    "wind_gust": "wind_gust_mph",
    "precip": "precipitation_inches",
    "pressure": "pressure_millibars",
    "visib": "visibility_miles",
}
FASTEST_WIND_MPH = 250.0
"""Above the strongest gust measured at the surface (253 mph, Barrow Island 1996), in whole tens: a broken gauge."""


def curate_weather(raw: pl.DataFrame) -> Curated:
    """One row per origin and hour.

    `time_hour` is the hour's beginning in UTC; the observation of that hour is taken as known when the hour has ended.
    """
    typed = raw.with_columns(pl.col(old).alias(new) for old, new in _NAMES.items()).with_columns(
        pl.col("time_hour").alias("observed_at"), (pl.col("time_hour") + pl.duration(hours=1)).alias("known_at")
    )
    rules = {
        "a required value is missing": pl.any_horizontal(pl.col("origin", "time_hour").is_null()),
        "wind faster than any measured": pl.max_horizontal("wind_speed", "wind_gust") > FASTEST_WIND_MPH,
        "humidity outside 0 to 100 percent": ~pl.col("humid").is_between(0, 100),
        "the same hour twice": pl.struct("origin", "time_hour").is_duplicated(),
    }
    return split_by_rules(typed, rules, list(SCHEMA), raw.columns)
