"""A platform whose flights are delivered as a file for each day, so that a day can be delivered badly."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import yaml
from tests_support import FIRST_DAY, move_paths, open_small_platform, write_small_configs

from configs.load import load_project
from feature_repo.store import register_features
from mlway_assets.jobs import DAILY, INGEST, PREDICT, TRAIN
from mlway_assets.lake import MissingTableError
from mlway_assets.local.graph import JobRun, RunError, run_jobs
from mlway_assets.local.instance import open_instance
from mlway_assets.local.paths import local_paths
from mlway_assets.resources import Platform
from mlway_assets.rollout import desired_versions
from mlway_assets.sources.nycflights import NycFlightsReader
from serving.deploy import ServedVersion
from serving.scoring import load_model

PRODUCT = "flight_delay"
FIRST, BEFORE, DAY, NEXT = date.fromisoformat(FIRST_DAY), date(2013, 2, 4), date(2013, 2, 5), date(2013, 2, 6)
"""The first day, the last that was delivered well, the one that the clock's day is, and the next."""
SPLIT = (date(2013, 1, 24), date(2013, 1, 31), DAY)
"""Where training, validation, which judges, and test end."""
Tamper = Callable[[pl.DataFrame], pl.DataFrame]
_GROUPS = ("origin_departures", "carrier_arrivals", "route")
_TABLES = ("raw/flights", "curated/fact_flights", "curated/departures", *(f"features/{group}" for group in _GROUPS))


def write_delivered_configs(folder: Path, state: Path, deliveries: Path) -> Path:
    """One product with three groups of features; flights are CSV files by day, read by two tables.

    `flights` is curated by Python, `departures` as its file declares, so that nothing but its numbers can tell that a
    unit has changed.
    """
    write_small_configs(folder, state)
    for kind, kept in (("products", [PRODUCT]), ("features", _GROUPS)):
        for file in (folder / kind).glob("*.yaml"):
            if file.stem not in kept:
                file.unlink()
    change(folder / "products" / f"{PRODUCT}.yaml", _slim)
    change(folder / "environments" / "local.yaml", _from)
    bundled = folder / "sources" / "nycflights13.yaml"
    content = yaml.safe_load(bundled.read_text(encoding="utf-8"))
    flights = content["tables"]["flights"] | {"path": f"{deliveries}/{{day}}*.csv", "format": "csv"}
    content["tables"] = {"airports": content["tables"]["airports"]}
    bundled.write_text(yaml.safe_dump(content), encoding="utf-8")
    names = {name: {"type": kind} for name, kind in flights["columns"].items() if name != "time_hour"}
    departures = flights | {
        "curated": {"key": ["carrier", "flight", "origin", "dest", "sched_dep_time"], "columns": names}
    }
    files = {"name": "deliveries", "kind": "files", "description": "Flights by day.", "owner": "team:tests"}
    text = yaml.safe_dump(files | {"tables": {"flights": flights, "departures": departures}}, sort_keys=False)
    (folder / "sources" / "deliveries.yaml").write_text(text, encoding="utf-8")
    return folder


def _slim(product: dict[str, Any]) -> dict[str, Any]:
    untils = zip(("train_until", "validate_until", "test_until"), SPLIT, strict=True)
    product["training"]["split"] = {name: f"{day}T00:00:00Z" for name, day in untils}
    return product | {"features": list(_GROUPS), "exclude": [], "monitoring": {"quality": {"label_delay": "1h"}}}


def _from(environment: dict[str, Any]) -> dict[str, Any]:
    return environment | {"clock": {"kind": "replay", "at": f"{DAY}T00:00:00Z"}}


def change(file: Path, how: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change a YAML file."""
    file.write_text(yaml.safe_dump(how(yaml.safe_load(file.read_text(encoding="utf-8")))), encoding="utf-8")


@dataclass(frozen=True)
class Delivered:
    """A platform with its folder of deliveries."""

    platform: Platform
    instance: dg.DagsterInstance
    root: Path

    @cached_property
    def product_file(self) -> Path:
        """Of the only product."""
        return self.root / "configs" / "products" / f"{PRODUCT}.yaml"

    def changed(self, how: Callable[[dict[str, Any]], dict[str, Any]]) -> "Delivered":
        """With another declaration of the product."""
        change(self.product_file, how)
        return Delivered(open_small_platform(self.root / "configs"), self.instance, self.root)

    def deliver(self, day: date, tamper: Tamper = lambda rows: rows, name: str = "") -> None:
        """Put the day's file there, after `tamper`."""
        write_delivery(self.root / "deliveries", day, tamper(recorded(day)), name)

    def run(self, job: str, *days: date, products: tuple[str, ...] = ()) -> None:
        """Run a job as the command line does. Raises RunError."""
        run_jobs(self.platform, self.instance, [JobRun(job, days, products)], lambda *_: None)

    def failure(self, day: date) -> str:
        """Why the job `daily` fails on this day."""
        try:
            self.run(DAILY, day, products=(PRODUCT,))
        except RunError as error:
            return str(error)
        raise AssertionError(f"{DAILY} of {day} went through")

    def tables(self) -> dict[str, int]:
        """The newest version of each table that training can read, and of what comes before them."""
        return {name: self.platform.lake.version(*name.split("/")) for name in _TABLES}

    def rows(self, table: str, day: date | None = None) -> pl.DataFrame:
        """A table's rows in one order; none of a table that was never written."""
        try:
            frame = self.platform.lake.scan(*table.split("/"))
        except MissingTableError:
            return pl.DataFrame()
        found = (frame if day is None else frame.filter(pl.col("event_day") == day)).collect()
        return found.drop("ingested_at", "ingested_from", strict=False).sort(pl.all())

    def served(self) -> tuple[ServedVersion | None, set[str], str, tuple[str, ...]]:
        """What endpoints are told to load and its bytes' digest, all registered versions, aliases, and the store."""
        champion = self.platform.registry.require_champion(PRODUCT)
        client = self.platform.registry.client
        versions = {str(found.version) for found in client.search_model_versions(f"name='{PRODUCT}'")}
        folders = tuple(sorted(path.name for path in champion.folder.parent.iterdir()))
        aliases = json.dumps(dict(sorted(client.get_registered_model(PRODUCT).aliases.items())))
        load_model(champion.folder, champion.digest)
        return desired_versions(self.platform)[PRODUCT], versions, aliases, folders

    def checks(self, asset: dg.AssetKey) -> dict[str, dg.AssetCheckEvaluation]:
        """The newest evaluation of each check of an asset."""
        found: dict[str, dg.AssetCheckEvaluation] = {}
        for run in self.instance.get_runs(limit=8):
            for entry in self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
                evaluation = entry.get_dagster_event().asset_check_evaluation_data
                if evaluation.asset_key == asset:
                    found.setdefault(evaluation.check_name, evaluation)
        return found


@cache
def _recorded() -> pl.DataFrame:
    reader = NycFlightsReader("flights", load_project().sources["nycflights13"].tables["flights"])
    return reader.read_days([FIRST + timedelta(days=number) for number in range(45)]).frame


def recorded(day: date) -> pl.DataFrame:
    """The day's flights as they are published."""
    return _recorded().filter(pl.col("event_day") == day).drop("event_day")


def write_delivery(folder: Path, day: date, rows: pl.DataFrame, name: str = "") -> None:
    """A file of the day."""
    text = rows.write_csv(datetime_format="%Y-%m-%dT%H:%M:%SZ")
    (folder / f"{day}{name}.csv").write_text(text, encoding="utf-8")


def build_delivered(root: Path) -> Delivered:
    """Every day up to the one before the clock's, a champion, and its predictions of the newest days."""
    deliveries = root / "deliveries"
    deliveries.mkdir()
    platform = open_small_platform(write_delivered_configs(root / "configs", root / "state", deliveries))
    built = Delivered(platform, open_instance(local_paths(platform.environment)), root)
    days = [FIRST + timedelta(days=number) for number in range((BEFORE - FIRST).days + 1)]
    for day in days:
        built.deliver(day)
    built.run(INGEST, *days)
    built.run(TRAIN)
    built.run(PREDICT, *days[-16:])
    return built


def copy_delivered(built: Delivered, root: Path) -> Delivered:
    """The built state, free to be changed."""
    for name in ("deliveries", "state"):
        shutil.copytree(built.root / name, root / name)
    configs = write_delivered_configs(root / "configs", root / "state", root / "deliveries")
    move_paths(built.root / "state", root / "state")
    platform = open_small_platform(configs)
    register_features(platform.environment, platform.project)
    return Delivered(platform, open_instance(local_paths(platform.environment)), root)
