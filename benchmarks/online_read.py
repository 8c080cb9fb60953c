"""One read of 20 features in 4 views: ours against `FeatureStore.get_online_features`, in turn, on the same store.

Usage: python benchmarks/online_read.py [rounds]. Two views are keyed by one entity and two by another; both sides ask
for the same random entities, a few of which are not there, and must give the same values before anything is timed.
A time is the median over the rounds. The last line is one JSON object; a ratio is the SDK's time / ours. The SDK's
result is left as it comes, in protocol buffers: turning it into Python values would take it as long again as is
printed beside it.

On Redis the SDK reads by Feast's own code. On SQLite it reads through the project's store class
(feature_repo/feast_online_stores.py), because our tables are not of Feast's layout; that is fair to the SDK: the class
was measured to be as fast as Feast's stock SQLite store at 1 row, and faster at 100.
"""

import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

import polars as pl

from configs.environments import Environment
from configs.features import LatestFeatures, TableFeatures
from configs.load import Project
from feature_repo.column_types import POLARS_TYPES
from feature_repo.online_writing import build_writer, push_values
from feature_repo.store import open_store
from serving.online_features import OnlineFeatures, build_online_features

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

NOW = datetime(2013, 10, 1, tzinfo=UTC)
ENTITIES = 5_000
ROWS = {1: "ratio_1_row", 100: "ratio_100_rows"}
AIRCRAFT, ROUTE = {"tailnum": "string"}, {"origin": "string", "number": "int64"}
VIEWS = {
    "aircraft_delays": (AIRCRAFT, ["float64"] * 4 + ["int64"] * 2),
    "aircraft_state": (AIRCRAFT, ["string", "int64", "float64", "boolean"]),
    "route_history": (ROUTE, ["float64"] * 5 + ["int64"]),
    "route_weather": (ROUTE, ["float64"] * 2 + ["int64", "string"]),
}
VALUES: Mapping[str, Callable[[random.Random], Any]] = {
    "float64": lambda dice: dice.gauss(10, 30),
    "int64": lambda dice: dice.randrange(2_000),
    "string": lambda dice: f"value {dice.randrange(200)}",
    "boolean": lambda dice: dice.random() < 0.5,
}


def groups() -> list[TableFeatures]:
    return [
        LatestFeatures.model_validate(
            {"name": name, "kind": "latest", "description": name, "owner": "team:benchmarks", "entity": "e"}
            | {"join_keys": keys, "table": "t", "known_at": "at", "time_to_live": "7d"}
            | {"features": {f"{name}_{n}": {"expression": "x", "type": kind} for n, kind in enumerate(kinds)}}
        )
        for name, (keys, kinds) in VIEWS.items()
    ]


def entity(keys: Mapping[str, str], number: int) -> list[Any]:
    return [f"N{number:05}" if keys is AIRCRAFT else f"K{number % 50:02}", number][: len(keys)]


def values(group: TableFeatures, dice: random.Random) -> pl.DataFrame:
    """Every entity's values, one in ten of which is null."""
    keys = VIEWS[group.name][0]
    kinds = dict(keys) | {"event_timestamp": "timestamp"} | dict(group.types)
    rows = [
        [*entity(keys, number), NOW - timedelta(seconds=dice.uniform(1, 86_400))]
        + [None if dice.random() < 0.1 else VALUES[kind](dice) for kind in group.types.values()]
        for number in range(ENTITIES)
    ]
    return pl.DataFrame(rows, schema={name: POLARS_TYPES[kind] for name, kind in kinds.items()}, orient="row")


def environment(folder: Path, online: Mapping[str, Any]) -> Environment:
    return Environment.model_validate(
        {"name": "benchmark", "state": folder, "clock": {"kind": "replay", "at": NOW}, "days": {"first": NOW.date()}}
        | {"lake": {"uri": str(folder)}, "model_store": str(folder), "promotion": {"first_version": "manual"}}
        | {"feature_store": {"registry": f"sqlite:///{folder}/registry.db", "online": online}}
        | {"experiments": {"tracking_uri": "sqlite://", "artifacts": str(folder)}}
    )


@contextmanager
def redis_server(folder: Path) -> Iterator[dict[str, Any]]:
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed.\nHint: apt-get install -y redis-server")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        try:
            deadline = perf_counter() + 20
            while not _listens(port):
                if server.poll() is not None or perf_counter() > deadline:
                    sys.exit("redis-server did not start")
                sleep(0.01)
            yield {"kind": "redis", "host": "127.0.0.1", "port": port}
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def fill(place: Environment, declared: Sequence[TableFeatures]) -> tuple["FeatureStore", "FeatureService", float]:
    """Registers the views with Feast and writes all values by our writer; gives its rows a second too."""
    store = open_store(place)
    from feast import FeatureService, FeatureView

    from feature_repo.objects import build_objects

    dice = random.Random(1)
    frames = {group.name: values(group, dice) for group in declared}
    for name, frame in frames.items():
        frame.clear().write_delta(place.lake.table_uri("features", name), mode="overwrite")
    project = Project({}, {group.name: group for group in declared}, {})
    objects = build_objects(project, place)
    service = FeatureService(name="benchmark", features=[each for each in objects if isinstance(each, FeatureView)])
    store.apply([*objects, service])
    writer, started = build_writer(place), perf_counter()
    for group in declared:
        push_values(writer, group, frames[group.name])
    return store, service, len(declared) * ENTITIES / (perf_counter() - started)


def requests(dice: random.Random, rows: int) -> dict[str, list[Any]]:
    numbers = [dice.randrange(int(ENTITIES * 1.02)) for _ in range(rows)]
    columns = zip(*(entity(AIRCRAFT, number) + entity(ROUTE, number) for number in numbers), strict=True)
    return dict(zip([*AIRCRAFT, *ROUTE], map(list, columns), strict=True))


def seconds(read: Callable[[], Any]) -> float:
    started = perf_counter()
    read()
    return perf_counter() - started


def compare(store: Any, service: Any, reader: OnlineFeatures, rows: int, rounds: int) -> tuple[float, float, float]:
    """Median seconds of the SDK, of the SDK with values in Python, and of ours."""
    dice = random.Random(rows)
    asked = [requests(dice, rows) for _ in range(20)]
    for entities in asked:
        sdk = store.get_online_features(features=service, entity_rows=entities).to_dict()
        ours = reader.read(entities, NOW).values
        if ours != {name: sdk[name] for name in ours}:
            sys.exit(f"the SDK and our reader disagree on {entities}")
    times: dict[str, list[float]] = {"sdk": [], "python": [], "ours": []}
    for number in range(rounds):
        entities = asked[number % len(asked)]
        reads = {
            "sdk": lambda e=entities: store.get_online_features(features=service, entity_rows=e),
            "python": lambda e=entities: store.get_online_features(features=service, entity_rows=e).to_dict(),
            "ours": lambda e=entities: reader.read(e, NOW),
        }
        # Turn and turn about: nobody always runs first.
        for name in sorted(reads, key=lambda name: (number + list(reads).index(name)) % len(reads)):
            times[name].append(seconds(reads[name]))
    sdk, python, ours = (statistics.median(each) for each in times.values())
    return sdk, python, ours


def measure(online: Mapping[str, Any], rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mlway-bench-") as folder:
        path = {"path": f"{folder}/online.db"} if online["kind"] == "sqlite" else {}
        place, declared = environment(Path(folder), {**online, **path}), groups()
        store, service, written = fill(place, declared)
        reader = build_online_features(place, declared)
        print(f"{online['kind']:7} written at {written:9,.0f} entities a second")
        result = {}
        for rows, name in ROWS.items():
            sdk, python, ours = compare(store, service, reader, rows, rounds)
            result[name] = round(sdk / ours, 1)
            print(
                f"{online['kind']:7}{rows:4} rows: SDK {sdk * 1e3:7.3f} ms ({python * 1e3:7.3f} ms as Python values), "
                f"ours {ours * 1e3:6.3f} ms, {sdk / ours:5.1f} times faster",
                flush=True,
            )
        return result


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory(prefix="mlway-redis-") as folder, redis_server(Path(folder)) as address:
        results = {online["kind"]: measure(online, rounds) for online in ({"kind": "sqlite"}, address)}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
