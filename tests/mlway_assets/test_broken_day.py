"""One day's file is broken: that day fails with the file's name, the others go on through the whole graph."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from tests_support import open_small_platform, write_small_configs

from mlway_assets.local.graph import RunError, plan, run_jobs
from mlway_assets.local.instance import open_instance
from mlway_assets.local.paths import local_paths
from mlway_assets.sources.build import build_reader

DAYS = [date(2013, 1, 1) + timedelta(days=n) for n in range(6)]
BROKEN = DAYS[2]


def write_weather_as_files(configs: Path, folder: Path) -> None:
    """Move the weather table from the bundled source to one file for each day."""
    bundled = configs / "sources" / "nycflights13.yaml"
    source = yaml.safe_load(bundled.read_text(encoding="utf-8"))
    weather = source["tables"].pop("weather") | {"path": f"{folder}/{{day}}.csv", "format": "csv"}
    bundled.write_text(yaml.safe_dump(source), encoding="utf-8")
    files = {"name": "weather_files", "kind": "files", "description": "Weather by day.", "owner": "team:tests"}
    text = yaml.safe_dump(files | {"tables": {"weather": weather}})
    (configs / "sources" / "weather_files.yaml").write_text(text, encoding="utf-8")


def test_the_day_fails_by_name_and_the_others_reach_the_features(tmp_path: Path) -> None:
    configs = write_small_configs(tmp_path / "configs", tmp_path / "state")
    read = build_reader(open_small_platform(configs).project.sources["nycflights13"], "weather").read_days(DAYS).frame
    folder = tmp_path / "weather"
    folder.mkdir()
    for (day,), rows in read.partition_by("event_day", as_dict=True).items():
        text = rows.drop("event_day").write_csv(datetime_format="%Y-%m-%dT%H:%M:%SZ")
        (folder / f"{day}.csv").write_text(text[: len(text) // 2] if day == BROKEN else text, encoding="utf-8")
    write_weather_as_files(configs, folder)
    platform = open_small_platform(configs)
    instance = open_instance(local_paths(platform.environment))
    with pytest.raises(RunError, match=rf"1 days could not be read(.|\n)*{BROKEN}\.csv(.|\n)*other 5 days went on"):
        run_jobs(platform, instance, plan(platform, ["ingest"], DAYS[0], DAYS[-1]), lambda *_: None)
    instance.dispose()
    for layer, name in (("raw", "weather"), ("curated", "fact_weather"), ("curated", "fact_flights")):
        found = platform.lake.scan(layer, name).select(pl.col("event_day").unique()).collect()["event_day"]
        assert sorted(found) == [day for day in DAYS if day != BROKEN or name == "fact_flights"], name
    assert platform.lake.scan("features", "origin_weather").collect().height > 0
