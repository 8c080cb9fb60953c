"""The curated tables written in Python, and the curation of any table.

What each is made from, by which function, and how many rows it may quarantine. Those that source files declare: see
`mlway_assets/declared_tables.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from mlway_assets import contracts
from mlway_assets.compute import dimensions, flights, weather
from mlway_assets.compute.quarantine import Curated, without_copies
from mlway_assets.compute.scale import ChangedScale, changed_scales, days_before
from mlway_assets.contracts import Contract, Violations, violations
from mlway_assets.lake import Lake

Table = tuple[str, str]
"""Layer and name."""


@dataclass(frozen=True)
class CuratedTable:
    """One table of the star schema."""

    name: str
    description: str
    owner: str
    curate: Callable[..., Curated]
    columns: Mapping[str, pl.DataType]
    contract: Contract
    partitioned_inputs: tuple[Table, ...] = ()
    whole_inputs: tuple[Table, ...] = ()
    maximum_quarantined_share: float = 0.001
    maximum_scale_change: float | None = 8
    lineage: Mapping[str, tuple[str, ...]] | None = None

    @property
    def is_partitioned(self) -> bool:
        """Whether the table is kept by event day."""
        return bool(self.partitioned_inputs)

    @property
    def inputs(self) -> tuple[Table, ...]:
        """All tables it is made from; the function takes them in this order."""
        return self.partitioned_inputs + self.whole_inputs

    def column_inputs(self, column: str) -> list[tuple[Table, str]]:
        """The columns of the first input that a column is made from; by default the one of the same name."""
        names = (self.lineage or {}).get(column, (column,))
        return [(self.inputs[0], name) for name in names]


OWNER = "team:data-platform"
_DEPARTURE = ("year", "month", "day", "sched_dep_time")
_ARRIVAL = (*_DEPARTURE, "sched_arr_time", "dest")

CURATED_TABLES = {
    table.name: table
    for table in (
        CuratedTable(
            "fact_flights",
            "One row per scheduled departure, in UTC, each value with the moment at which it became known.",
            OWNER,
            flights.curate_flights,
            flights.SCHEMA,
            contracts.fact_flights,
            partitioned_inputs=(("raw", "flights"),),
            whole_inputs=(("curated", "dim_airport"),),
            lineage={
                "event_day": ("year", "month", "day"),
                "distance_miles": ("distance",),
                "scheduled_departure": _DEPARTURE,
                "scheduled_arrival": _ARRIVAL,
                "actual_departure": (*_DEPARTURE, "dep_delay"),
                "actual_arrival": (*_ARRIVAL, "arr_delay"),
                "departure_delay_minutes": ("dep_delay",),
                "arrival_delay_minutes": ("arr_delay",),
                "air_time_minutes": ("air_time",),
                "outcome": ("dep_time", "arr_delay"),
                "departure_known_at": (*_DEPARTURE, "dep_delay", "dep_time"),
                "arrival_known_at": (*_ARRIVAL, "arr_delay", "dep_time"),
            },
        ),
        CuratedTable(
            "fact_weather",
            "One row per origin and hour; an observation is known when its hour has ended.",
            OWNER,
            weather.curate_weather,
            weather.SCHEMA,
            contracts.fact_weather,
            partitioned_inputs=(("raw", "weather"),),
            lineage={
                "event_day": ("year", "month", "day"),
                "observed_at": ("time_hour",),
                "known_at": ("time_hour",),
                "temperature_fahrenheit": ("temp",),
                "dew_point_fahrenheit": ("dewp",),
                "relative_humidity_percent": ("humid",),
                "wind_direction_degrees": ("wind_dir",),
                "wind_speed_mph": ("wind_speed",),
                "wind_gust_mph": ("wind_gust",),
                "precipitation_inches": ("precip",),
                "pressure_millibars": ("pressure",),
                "visibility_miles": ("visib",),
            },
        ),
        CuratedTable(
            "dim_aircraft",
            "Aircraft by tail number.",
            OWNER,
            dimensions.curate_aircraft,
            dimensions.AIRCRAFT_SCHEMA,
            contracts.dim_aircraft,
            whole_inputs=(("raw", "planes"),),
            lineage={"year_built": ("year",)},
        ),
        CuratedTable(
            "dim_airport",
            "Airports by FAA code, with place and time zone.",
            OWNER,
            dimensions.curate_airports,
            dimensions.AIRPORT_SCHEMA,
            contracts.dim_airport,
            whole_inputs=(("raw", "airports"), ("raw", "airports_supplement")),
            maximum_quarantined_share=0.01,
            lineage={
                "airport": ("faa",),
                "latitude": ("lat",),
                "longitude": ("lon",),
                "altitude_feet": ("alt",),
                "time_zone": ("tzone",),
            },
        ),
        CuratedTable(
            "dim_carrier",
            "Carriers by code.",
            OWNER,
            dimensions.curate_carriers,
            dimensions.CARRIER_SCHEMA,
            contracts.dim_carrier,
            whole_inputs=(("raw", "airlines"),),
        ),
    )
}


@dataclass(frozen=True)
class CuratedWrite:
    """What was curated: the rows, those quarantined, what is wrong all the same, the version written."""

    curated: Curated
    broken: Violations
    changed_scales: Sequence[ChangedScale]
    version: int | None


def curate(table: CuratedTable, lake: Lake, days: list[date]) -> CuratedWrite:
    """Curate and write `days` of a partitioned table, or the whole of another.

    Copies and rows that break the contract are quarantined. Where more than the stated share breaks a rule, the
    contract does not hold even so, or values are of another size than on the days before, the table keeps what it had,
    and only the quarantine is written. The quarantine is written first: should the second commit never happen, the
    next run does both again.
    """
    frames = [lake.scan_days(layer, name, days).collect() for layer, name in table.partitioned_inputs]
    frames += [lake.scan(layer, name).collect() for layer, name in table.whole_inputs]
    first, *others = (_as_received(frame) for frame in frames)
    received, copies = without_copies(first)
    curated = table.curate(received, *others)
    broken = violations(table.contract, curated.rows)
    if broken.rows:
        curated = curated.without(broken.rows)
        broken = violations(table.contract, curated.rows)
    curated = curated.with_copies(copies)
    changed = _changed_scales(table, lake, curated.rows, days)
    _write(table, lake, "quarantine", curated.quarantined, days)
    is_sound = not broken and not changed and curated.broken_share <= table.maximum_quarantined_share
    version = _write(table, lake, "curated", curated.rows, days) if is_sound else None
    return CuratedWrite(curated, broken, changed, version)


def _changed_scales(table: CuratedTable, lake: Lake, rows: pl.DataFrame, days: list[date]) -> list[ChangedScale]:
    """Of the days that are to be written, beside those before them, new or as they are in the lake."""
    if table.maximum_scale_change is None or not table.is_partitioned:
        return []
    others = sorted({before for day in days for before in days_before(day)} - set(days))
    if lake.exists("curated", table.name):
        known = lake.scan_days("curated", table.name, others)
        # A column that is new, or had another type, has nothing to be held against.
        same = [name for name, kind in known.collect_schema().items() if rows.schema.get(name) == kind]
        rows = pl.concat([rows, known.select(same).collect()], how="diagonal")
    return changed_scales(rows, days, table.maximum_scale_change)


def _write(table: CuratedTable, lake: Lake, layer: str, frame: pl.DataFrame, days: list[date]) -> int:
    if table.is_partitioned:
        return lake.replace_days(layer, table.name, frame, days)
    return lake.replace(layer, table.name, frame)


def _as_received(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop("ingested_at", "ingested_from", strict=False)
