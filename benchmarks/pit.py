"""Point-in-time joins: ours against a bare Polars chain, DuckDB's ASOF join, and the stores that Feast ships.

Usage: python benchmarks/pit.py [pairs]. Each join runs in a process of its own, turn about; medians are compared.
Every join reads and writes Parquet. Ours keeps the order of the entity rows and applies the ttl; the bare chain does
neither. The last line is one JSON object: `ratio_to_polars` on the real rows, `ratio_to_duckdb` and `peak_mb` on
5,000,000 x 4 x 5,000,000 synthetic rows.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from real_flights import flights_of_2013

WORK = str(Path(__file__).parent / "pit_work.py")
SYNTHETIC_ROWS, LARGE_ROWS, LARGE_LIMIT_MB = 5_000_000, 20_000_000, 6_000
GROWTH = (1_250_000, 2_500_000, 5_000_000)
ENTITIES = 100_000
STOCK_SIZES, STOCK_SECONDS, STOCK_LIMIT_MB = (100, 1_000, 10_000), 120, 16_000
Figures = dict[str, Any]


def write_real(folder: Path) -> int:
    """The flights that arrived, and views of about 310,000 rows and 5 features each."""
    arrived = flights_of_2013().drop_nulls(["arrival_delay_minutes", "tailnum"])
    moment = (pl.col("scheduled_departure") - pl.duration(hours=2)).alias("event_timestamp")
    arrived.select("origin", "dest", "carrier", "tailnum", moment).write_parquet(folder / "entities.parquet")
    delay = pl.col("arrival_delay_minutes")
    for key in ("origin", "dest", "carrier", "tailnum"):
        features = {f"{key}_{n}": (delay * n).cast(pl.Float64 if n % 2 else pl.Int64) for n in range(1, 6)}
        values = arrived.select(key, event_timestamp="arrival_known_at", **features)
        unique = values.unique([key, "event_timestamp"], keep="last", maintain_order=True)
        unique.sort("event_timestamp").write_parquet(folder / f"view_{key}.parquet")
    return len(arrived)


def write_synthetic(folder: Path, rows: int, view_rows: int) -> None:
    """Entity rows in no order, and 4 views of one entity, 5 features each, sorted by time, over a year."""
    dice = np.random.default_rng(2013)
    _table(dice, rows, []).write_parquet(folder / "entities.parquet")
    for view in range(4):
        values = _table(dice, view_rows, [f"view{view}_{n}" for n in range(5)]).sort("event_timestamp")
        values.write_parquet(folder / f"view_{view}.parquet")


def _table(dice: np.random.Generator, rows: int, features: list[str]) -> pl.DataFrame:
    year = 365 * 86_400 * 10**6
    moments = np.datetime64("2013-01-01", "us") + dice.integers(0, year, rows).astype("timedelta64[us]")
    columns = {"key": dice.integers(0, ENTITIES, rows), "event_timestamp": moments}
    columns |= {name: dice.random(rows) if n % 2 else dice.integers(0, 1_000, rows) for n, name in enumerate(features)}
    return pl.DataFrame(columns).with_columns(pl.col("event_timestamp").dt.replace_time_zone("UTC"))


def run(who: str, folder: Path, rows: int, limit_mb: int | None = None) -> Figures:
    """What one join took. Ends the benchmark when it fails."""
    done = attempt(who, folder, rows, limit_mb, None)
    if isinstance(done, str):
        sys.exit(f"{who}, {rows:,} rows: {done}")
    return done


def attempt(who: str, folder: Path, rows: int, limit_mb: int | None, seconds: float | None) -> Figures | str:
    """What one join took, or how it failed."""
    command = [sys.executable, WORK, who, str(folder), str(rows), *([str(limit_mb)] if limit_mb else [])]
    # An address space counts what allocators reserve: under a limit they are told not to.
    frugal = {"MALLOC_ARENA_MAX": "2", "_RJEM_MALLOC_CONF": "retain:false"} if limit_mb else {}
    environment = os.environ | frugal
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, env=environment)
    except subprocess.TimeoutExpired:
        return f"not done after {seconds:.0f} s"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
        return lines[-1][:200]
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(title: str, peers: tuple[str, ...], folder: Path, rows: int, pairs: int) -> dict[str, Figures]:
    """Each peer's median figures, run turn about."""
    runs: dict[str, list[Figures]] = {who: [] for who in peers}
    for _ in range(pairs):
        for who in peers:
            runs[who].append(run(who, folder, rows))
    medians = {
        who: {name: statistics.median(figures[name] for figures in found) for name in ("seconds", "peak_mb")}
        for who, found in runs.items()
    }
    print(f"\n{title}")
    for who, figures in medians.items():
        print(f"  {who:<8}{figures['seconds']:>9.2f} s{figures['peak_mb']:>9,.0f} MB")
    return medians


def growth(folder: Path) -> None:
    """Ours at three sizes."""
    print("\nGrowth (ours)")
    for rows in GROWTH:
        figures = run("mlway", folder, rows)
        print(f"  {rows:>11,} rows{figures['seconds']:>9.2f} s{figures['peak_mb']:>9,.0f} MB")


def large(folder: Path) -> None:
    """Ours, 20,000,000 entity rows, with the address space limited."""
    write_synthetic(folder, LARGE_ROWS, SYNTHETIC_ROWS)
    figures = run("mlway", folder, LARGE_ROWS, LARGE_LIMIT_MB)
    print(f"\n{LARGE_ROWS:,} rows under an address space of {LARGE_LIMIT_MB:,} MB (ours)")
    print(f"  {figures['seconds']:.2f} s, {figures['peak_mb']:,} MB, {figures['rows']:,} rows")


def stock(folder: Path) -> None:
    """The stores that Feast ships, at the largest size that they finish."""
    print(f"\nStock Feast stores, real rows: the largest of {STOCK_SIZES} done within {STOCK_SECONDS} s")
    for who in ("feast_dask", "feast_duckdb"):
        said = "none"
        for rows in STOCK_SIZES:
            figures = attempt(who, folder, rows, STOCK_LIMIT_MB, STOCK_SECONDS)
            if isinstance(figures, str):
                said += f"; at {rows:,}: {figures}"
                break
            back, seconds, peak = figures["rows"], figures["seconds"], figures["peak_mb"]
            said = f"{rows:,} rows: {seconds:.1f} s, {peak:,} MB, {back:,} rows came back"
        print(f"  {who:<13}{said}")


def main() -> None:
    """Run everything and print the ratios."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="mlway-bench-pit-") as temporary:
        real, synthetic = Path(temporary) / "real", Path(temporary) / "synthetic"
        real.mkdir(), synthetic.mkdir()
        rows = write_real(real)
        on_real = compare(f"{rows:,} real rows x 4 views", ("mlway", "polars", "duckdb"), real, rows, pairs)
        stock(real)
        write_synthetic(synthetic, SYNTHETIC_ROWS, SYNTHETIC_ROWS)
        peers = ("mlway", "duckdb", "polars")
        title = f"{SYNTHETIC_ROWS:,} x 4 x {SYNTHETIC_ROWS:,} synthetic rows"
        on_synthetic = compare(title, peers, synthetic, SYNTHETIC_ROWS, max(1, pairs - 1))
        growth(synthetic)
        large(synthetic)
    print(
        json.dumps(
            {
                "ratio_to_polars": round(on_real["mlway"]["seconds"] / on_real["polars"]["seconds"], 3),
                "ratio_to_duckdb": round(on_synthetic["mlway"]["seconds"] / on_synthetic["duckdb"]["seconds"], 3),
                "ratio_to_duckdb_real": round(on_real["mlway"]["seconds"] / on_real["duckdb"]["seconds"], 3),
                "peak_mb": on_synthetic["mlway"]["peak_mb"],
            }
        )
    )


if __name__ == "__main__":
    main()
