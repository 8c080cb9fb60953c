"""One point-in-time join in a process of its own: python benchmarks/pit_work.py WHO FOLDER ROWS [LIMIT_MB].

WHO is `mlway`, `polars` (a bare join_asof chain), `duckdb` (ASOF joins), or a stock Feast store: `feast_dask`,
`feast_duckdb`. FOLDER holds entities.parquet and view_*.parquet. Prints seconds, peak memory and rows as JSON. Clocks
start when everything is imported and registered. The result goes to a Parquet file.
"""

import json
import resource
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

OUTPUT = "joined.parquet"
Work = Callable[[], int]


def view_files(folder: Path) -> list[Path]:
    """The values of each view: one key column, `event_timestamp`, features."""
    return sorted(folder.glob("view_*.parquet"))


def key_of(path: Path) -> str:
    """The view's key column: the first."""
    return next(iter(pl.scan_parquet(path).collect_schema()))


def mlway(folder: Path, rows: int) -> Work:
    """Ours, through Feast's own interface."""
    store, features = feast_store(folder, {"type": "feature_repo.offline_store.PolarsOfflineStore"})

    def work() -> int:
        entities = pl.scan_parquet(folder / "entities.parquet").head(rows).collect()
        return store.get_historical_features(entity_df=entities, features=features).sink_parquet(folder / OUTPUT)

    return work


def feast_stock(folder: Path, rows: int, kind: str) -> Work:
    """A store that Feast ships."""
    store, features = feast_store(folder, {"type": kind})

    def work() -> int:
        entities = pl.scan_parquet(folder / "entities.parquet").head(rows).collect().to_pandas()
        frame = store.get_historical_features(entity_df=entities, features=features).to_df()
        frame.to_parquet(folder / OUTPUT)
        return len(frame)

    return work


def feast_store(folder: Path, offline: dict[str, Any]) -> tuple[Any, list[str]]:
    """A store over the files, each a view with a ttl of a day, and the references of all features."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
    from feast.types import Float64, Int64, String
    from feast.value_type import ValueType

    registry = folder / f"registry_{offline['type'].rpartition('.')[2]}.db"
    registry.unlink(missing_ok=True)
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{registry}"},
            offline_store=offline,
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
            repo_path=folder,
        )
    )
    kinds = {pl.Int64: Int64, pl.Float64: Float64, pl.String: String}
    entities: dict[str, Any] = {}
    views, features = [], []
    for path in view_files(folder):
        schema = pl.scan_parquet(path).collect_schema()
        key = key_of(path)
        value_type = ValueType.STRING if schema[key] == pl.String else ValueType.INT64
        entities.setdefault(key, Entity(name=key, join_keys=[key], value_type=value_type))
        fields = [Field(name=name, dtype=kinds[kind]) for name, kind in schema.items() if name != "event_timestamp"]
        source = FileSource(name=f"{path.stem}_rows", path=str(path), timestamp_field="event_timestamp")
        views.append(
            FeatureView(name=path.stem, entities=[entities[key]], ttl=timedelta(days=1), schema=fields, source=source)
        )
        features += [f"{path.stem}:{field.name}" for field in fields if field.name != key]
    store.apply([*entities.values(), *views])
    return store, features


def polars(folder: Path, rows: int) -> Work:
    """The least that a point-in-time join must do: no ttl, no order, no checks."""

    def work() -> int:
        joined = pl.scan_parquet(folder / "entities.parquet").head(rows).sort("event_timestamp")
        for path in view_files(folder):
            moment = f"{path.stem}_timestamp"
            values = pl.scan_parquet(path).rename({"event_timestamp": moment})
            joined = joined.join_asof(
                values, left_on="event_timestamp", right_on=moment, by=key_of(path), check_sortedness=False
            )
        joined.sink_parquet(folder / OUTPUT)
        return rows

    return work


def duckdb(folder: Path, rows: int) -> Work:
    """DuckDB's ASOF join, with the ttl in the select list."""
    import duckdb

    columns, joins = [], []
    for path in view_files(folder):
        key, name = key_of(path), path.stem
        features = [c for c in pl.scan_parquet(path).collect_schema() if c not in (key, "event_timestamp")]
        alive = f"{name}.event_timestamp >= e.event_timestamp - INTERVAL 1 DAY"
        columns += [f"CASE WHEN {alive} THEN {name}.{feature} END AS {feature}" for feature in features]
        joins.append(
            f"ASOF LEFT JOIN '{path}' {name} ON e.{key} = {name}.{key} AND e.event_timestamp >= {name}.event_timestamp"
        )
    source = f"(SELECT * FROM '{folder}/entities.parquet' LIMIT {rows})"
    query = f"SELECT e.*, {', '.join(columns)} FROM {source} e {' '.join(joins)}"

    def work() -> int:
        with duckdb.connect() as connection:
            connection.execute(f"COPY ({query}) TO '{folder / OUTPUT}' (FORMAT parquet)")
        return rows

    return work


def main() -> None:
    """Run one join and print what it took."""
    who, folder, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if len(sys.argv) > 4:
        limit = int(sys.argv[4]) * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    makers: dict[str, Callable[[Path, int], Work]] = {
        "mlway": mlway,
        "polars": polars,
        "duckdb": duckdb,
        "feast_dask": lambda folder, rows: feast_stock(folder, rows, "dask"),
        "feast_duckdb": lambda folder, rows: feast_stock(folder, rows, "duckdb"),
    }
    work = makers[who](folder, rows)
    began = perf_counter()
    joined = work()
    seconds = perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000
    print(json.dumps({"seconds": round(seconds, 3), "peak_mb": round(peak), "rows": joined}))


if __name__ == "__main__":
    main()
