"""A small project for tests of the online store: four views, keyed two by two, with features of every type."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from configs.environments import Environment
from configs.features import LatestFeatures, StaticFeatures, TableFeatures, WindowedFeatures
from configs.load import Project
from feature_repo.column_types import POLARS_TYPES
from feature_repo.online_layout import OnlineView, online_view
from feature_repo.online_writing import OnlineWriter, build_writer
from serving.online_features import OnlineFeatures, build_online_features

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
CAR = {"description": "Of a car.", "owner": "team:tests", "entity": "car", "join_keys": {"plate": "string"}}
TRIP = {
    "description": "Of a trip.",
    "owner": "team:tests",
    "entity": "trip",
    "join_keys": {"town": "string", "number": "int64"},
}
STATE = LatestFeatures.model_validate(
    CAR
    | {"name": "car_state", "kind": "latest", "table": "cars", "known_at": "at", "time_to_live": "6h"}
    | {
        "features": {
            "fuel": {"expression": "fuel", "type": "float64"},
            "kilometres": {"expression": "kilometres", "type": "int64"},
            "driver": {"expression": "driver", "type": "string"},
            "is_open": {"expression": "is_open", "type": "boolean"},
        }
    }
)
STOPS = WindowedFeatures.model_validate(
    CAR
    | {"name": "car_stops", "kind": "windowed", "table": "stops", "known_at": "at", "windows": ["1h", "3h"]}
    | {"aggregations": {"stops": {"function": "count"}, "stop_minutes": {"function": "mean", "of": "minutes"}}}
)
PLACE = StaticFeatures.model_validate(
    TRIP
    | {"name": "trip_place", "kind": "static", "table": "trips"}
    | {"features": {"length": {"expression": "length", "type": "int64"}}}
)
PRICE = LatestFeatures.model_validate(
    TRIP
    | {"name": "trip_price", "kind": "latest", "table": "prices", "known_at": "at", "time_to_live": "1d"}
    | {"features": {"price": {"expression": "price", "type": "float64"}}}
)
HOUR, MICROSECOND = timedelta(hours=1), timedelta(microseconds=1)
GROUPS: tuple[TableFeatures, ...] = (STATE, STOPS, PLACE, PRICE)


def frame(group: TableFeatures, *rows: Sequence[Any]) -> pl.DataFrame:
    """Values of a group: its join keys, `event_timestamp`, its features."""
    kinds = dict(group.join_keys) | {"event_timestamp": "timestamp"} | dict(group.types)
    return pl.DataFrame(rows, schema={name: POLARS_TYPES[kind] for name, kind in kinds.items()}, orient="row")


def car(plate: str, moment: datetime, kilometres: int | None) -> pl.DataFrame:
    """A row of STATE in which every number says the same."""
    return frame(STATE, [plate, moment, None if kilometres is None else kilometres / 2, kilometres, None, None])


def start_python(code: str, online: "OnlineStoreUnderTest", *words: str) -> "subprocess.Popen[str]":
    """A process that runs `code` with everything of this module, and the same store as `online`."""
    prelude = (
        "import json, sys\nfrom pathlib import Path\nfrom online_support import *\n"
        "from feature_repo.online_writing import push_values\n"
        "online = OnlineStoreUnderTest(Path(sys.argv[1]), json.loads(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", prelude + code, str(online.folder), json.dumps(online.address), *words]
    variables = {"PYTHONPATH": ":".join(sys.path), "TZ": "UTC"}
    return subprocess.Popen(command, env=variables, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@dataclass
class OnlineStoreUnderTest:
    """An empty online store with everything that reads and writes it."""

    folder: Path
    address: dict[str, Any]
    groups: Sequence[TableFeatures] = field(default=GROUPS)

    @cached_property
    def environment(self) -> Environment:
        """An environment that lies in the folder."""
        return Environment.model_validate(
            {
                "name": "tests",
                "state": self.folder,
                "clock": {"kind": "replay", "at": NOON},
                "days": {"first": NOON.date()},
                "lake": {"uri": str(self.folder / "lake")},
                "model_store": str(self.folder / "models"),
                "feature_store": {"registry": f"sqlite:///{self.folder}/registry.db", "online": self.address},
                "experiments": {"tracking_uri": "sqlite://", "artifacts": str(self.folder)},
                "promotion": {"first_version": "manual"},
            }
        )

    @property
    def project(self) -> Project:
        """A project of these groups."""
        return Project({}, {group.name: group for group in self.groups}, {})

    @cached_property
    def writer(self) -> OnlineWriter:
        """A writer, ready for every group."""
        writer = build_writer(self.environment)
        for group in self.groups:
            writer.prepare(online_view(group))
        return writer

    def reader(self, *groups: TableFeatures) -> OnlineFeatures:
        """A reader of these groups, by default of all."""
        assert self.writer
        return build_online_features(self.environment, groups or self.groups)

    def view(self, group: TableFeatures) -> OnlineView:
        """The group as the store sees it."""
        return online_view(group)

    def write_lake(self, group: TableFeatures, values: pl.DataFrame) -> None:
        """The group's values table."""
        path = self.environment.lake.table_uri("features", group.name)
        values.sort("event_timestamp").write_delta(path, mode="overwrite")
