"""The endpoint against a hand-written FastAPI + Feast + LightGBM service, and against Ray Serve doing nothing.

Usage: python benchmarks/serve.py [--folder FOLDER] [--seconds N]. One platform is brought up with Redis as its online
store, in FOLDER where it is kept, or in a temporary one. The peer (peers/feast_fastapi.py) reads the same Redis and the
same model file, with as many processes as we have replicas. Each is asked in turn by wrk for the same flights, over 1,
8 and 32 connections; a figure is the median of the rounds. Ours checks a key, reads features, logs every decision and
has its cache off.

At last flights are asked for by Zipf's law (exponent 1.1), without the cache and with it.

The last line is one JSON object: `ratio_8` and `ratio_32` are requests per second, ours / the peer's; `ratio_rank` the
same for requests of 100 candidates over 8 connections; `of_ceiling` is ours / the no-op's at 8.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import polars as pl
import yaml
from online_read import redis_server

from configs.load import PROJECT_ROOT, configs_folder
from mlway_assets.local.local_key import local_key
from mlway_assets.local.paths import local_paths
from mlway_assets.local.process_manager import ProcessManager, wait_until
from mlway_assets.local.services import RAY, build_services, prepare
from mlway_assets.local.up import open_serve_api, product_url
from mlway_assets.resources import Platform, open_platform
from mlway_assets.rollout import desired_versions
from serving.decision_records import split_decision
from serving.decision_segments import SegmentContent, list_segments
from serving.deploy import code_digest, serve_config

PRODUCT = "flight_delay"
CONNECTIONS = (1, 8, 32)
CANDIDATES = 100
REPLICAS = 2
ENDPOINT = {"min_replicas": REPLICAS, "max_replicas": REPLICAS, "max_ongoing_requests": 64, "cache_entries": 0}
PEER_PORT = 28100
PORTS = (
    "serve=28000,dagster=23000,mlflow=25000,ray_dashboard=28265,"
    "ray_head=26399,haproxy_metrics=29101,haproxy_stats=28404,grpc=28001"
)
CONFIGS = configs_folder()
"""Those of the project; later the variable names our own."""
MLWAY = str(Path(sys.executable).parent / "mlway")


@dataclass(frozen=True)
class Contestant:
    """Somebody who answers."""

    name: str
    url: str
    headers: Mapping[str, str]


def write_configs(folder: Path, redis: Mapping[str, Any], cache_entries: int = 0) -> None:
    """The project's configuration with Redis as its online store, REPLICAS replicas and such a cache."""
    configs = folder / "configs"
    shutil.rmtree(configs, ignore_errors=True)
    shutil.copytree(CONFIGS, configs, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    changes: dict[str, Callable[[dict[str, Any]], None]] = {
        "environments/local.yaml": lambda content: content["feature_store"].update(online=dict(redis)),
        f"products/{PRODUCT}.yaml": lambda content: content.update(
            endpoint=ENDPOINT | {"cache_entries": cache_entries}
        ),
    }
    for name, change in changes.items():
        content = yaml.safe_load((configs / name).read_text(encoding="utf-8"))
        change(content)
        (configs / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    os.environ["MLWAY_CONFIGS"] = str(configs)


@contextmanager
def platform(folder: Path, redis: Mapping[str, Any]) -> Iterator[Platform]:
    """A built platform of which only what serves is up: nobody else is to need the processors."""
    os.environ |= {"MLWAY_STATE": str(folder / "state"), "MLWAY_PORTS": PORTS}
    write_configs(folder, redis)
    is_built = (folder / "state" / "models").exists()  # but its online values were in a Redis that is gone
    subprocess.run([MLWAY, "materialize", *(["ingest"] if is_built else ["--product", PRODUCT])], check=True)
    place = open_platform()
    prepare(place.environment)
    local_key(place.environment)  # replicas that find no keys look again only some seconds later
    manager = ProcessManager(local_paths(place.environment))
    manager.start([service for service in build_services(place.environment, "local") if service.name == RAY])
    try:
        if not wait_until(open_serve_api(place).is_up, 120):
            sys.exit("Ray Serve did not come up")
        yield place
    finally:
        manager.stop()


def declare(place: Platform, noop: bool) -> None:
    """Ask Serve for our application alone, or for the no-op alone, with the same settings."""
    api = open_serve_api(place)
    config = serve_config(place.project, place.environment, "local", desired_versions(place), code_digest())
    wanted = "noop" if noop else PRODUCT
    if noop:
        [ours] = [each for each in config["applications"] if each["name"] == PRODUCT]
        same = ("max_ongoing_requests", "max_queued_requests", "logging_config", "ray_actor_options")
        settings = {"name": "Noop", "num_replicas": REPLICAS}
        settings |= {name: ours["deployments"][0][name] for name in same}
        application = {"name": "noop", "route_prefix": "/noop", "import_path": "benchmarks.noop_app:build", "args": {}}
        config["applications"] = [{**application, "deployments": [settings]}]
    else:
        config["applications"] = [each for each in config["applications"] if each["name"] == PRODUCT]
    api.declare(config)

    def is_up() -> bool:
        applications = api.applications()
        deployments = applications.get(wanted, {}).get("deployments", {}).values()
        states = [replica["state"] for deployment in deployments for replica in deployment["replicas"]]
        return applications.keys() == {wanted} and states == ["RUNNING"] * REPLICAS

    if not wait_until(is_up, 180):
        sys.exit(f"{wanted} did not come up: {api.applications()}")


@contextmanager
def peer() -> Iterator[Contestant]:
    """The hand-written service."""
    command = [sys.executable, "-m", "uvicorn", "benchmarks.peers.feast_fastapi:app", "--port", str(PEER_PORT)]
    command += ["--loop", "uvloop", "--http", "httptools", "--workers", str(REPLICAS), "--log-level", "warning"]
    with subprocess.Popen(command, cwd=PROJECT_ROOT) as process:
        try:
            url = f"http://127.0.0.1:{PEER_PORT}"
            if not wait_until(lambda: process.poll() is not None or _answers(f"{url}/docs"), 120) or process.poll():
                sys.exit("the peer did not start")
            yield Contestant("peer", f"{url}/predict", {})
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def instances(place: Platform, count: int) -> list[dict[str, Any]]:
    """Flights of the week after now, each of which has every field."""
    population = place.project.products[PRODUCT].population
    time, now = pl.col(population.event_time), place.clock.now()
    rows = place.lake.scan("curated", population.table).filter(time.is_between(now, now + timedelta(days=7)))
    sample = rows.select(*population.request).drop_nulls().collect().sample(count, seed=1, with_replacement=True)
    return sample.to_dicts()


def bodies(flights: Sequence[Mapping[str, Any]], size: int) -> list[bytes]:
    """Requests of `size` instances each."""
    return [orjson.dumps({"instances": flights[start : start + size]}) for start in range(0, len(flights), size)]


def agree(ours: Contestant, other: Contestant, requests: Sequence[bytes]) -> float:
    """The share of instances that both give the same score. Feast enforces no ttl online, so it may be below one."""
    same = total = 0
    for body in requests:
        scores = []
        for each in (ours, other):
            response = httpx.post(each.url, content=body, headers={**each.headers, "Content-Type": "application/json"})
            if response.status_code != httpx.codes.OK:
                sys.exit(f"{each.name} answered {response.status_code}: {response.text[:300]}")
            scores.append([prediction["score"] for prediction in response.json()["predictions"]])
        same += sum(one == two for one, two in zip(*scores, strict=True))
        total += len(scores[0])
    return same / total


@contextmanager
def running_load(
    asked: Contestant, requests: Sequence[bytes], connections: int, seconds: int, decisions: Path | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Wrk at work; the last line that it prints is one JSON object. The ids of its answers go to `decisions`."""
    with tempfile.TemporaryDirectory(prefix="mlway-bench-") as folder:
        lines, headers = Path(folder, "bodies"), Path(folder, "headers")
        lines.write_bytes(b"\n".join(requests))
        headers.write_text("".join(f"{name}: {value}\n" for name, value in asked.headers.items()), encoding="utf-8")
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
        command += ["-s", str(Path(__file__).parent / "requests.lua"), asked.url]
        variables = os.environ | {"BODIES": str(lines), "HEADERS": str(headers)}
        variables |= {"DECISIONS": str(decisions)} if decisions else {}
        with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
            yield process


def load(asked: Contestant, requests: Sequence[bytes], connections: int, seconds: int) -> dict[str, float]:
    """Requests per second and latencies in milliseconds, as wrk counts them."""
    with running_load(asked, requests, connections, seconds) as process:
        output, _ = process.communicate()
    found = json.loads(output.splitlines()[-1])
    if found["failed"]:
        sys.exit(f"{asked.name}: {found['failed']} of {found['requests']} requests failed")
    return {"rate": found["requests"] / found["seconds"], "p50": found["p50"], "p99": found["p99"]}


def measure(
    place: Platform, ours: Contestant, noop: Contestant, other: Contestant, seconds: int, rounds: int
) -> dict[tuple[str, str], dict[str, float]]:
    """Medians over the rounds, by who was asked and how."""
    flights = instances(place, 2_000)
    single, rank = bodies(flights, 1), bodies(flights, CANDIDATES)
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    declare(place, noop=False)
    print(f"{agree(ours, other, rank):.1%} of 2,000 flights get the same score from both", flush=True)
    for number in range(rounds + 1):  # the first warms up
        declare(place, noop=False)
        for asked in (ours, other) if number % 2 else (other, ours):
            for connections in CONNECTIONS:
                result = load(asked, single, connections, seconds if number else 2)
                found.setdefault((asked.name, str(connections)), []).append(result)
            found.setdefault((asked.name, "rank"), []).append(load(asked, rank, 8, seconds if number else 2))
        declare(place, noop=True)
        for connections in CONNECTIONS:
            result = load(noop, single, connections, seconds if number else 2)
            found.setdefault((noop.name, str(connections)), []).append(result)
    return {
        key: {name: statistics.median(each[name] for each in results[1:]) for name in results[0]}
        for key, results in found.items()
    }


def measure_cache(place: Platform, folder: Path, ours: Contestant, seconds: int) -> None:
    """Print what the cache is worth where some flights are asked for far more often than others."""
    flights = instances(place, 2_000)
    places = np.random.default_rng(1).zipf(1.1, 40_000) - 1
    requests = bodies([flights[place] for place in places[places < len(flights)]], 1)
    online = yaml.safe_load((folder / "configs/environments/local.yaml").read_text(encoding="utf-8"))
    redis = online["feature_store"]["online"]
    for entries in (0, 10_000):
        write_configs(folder, redis, entries)
        declare(place, noop=True)  # so that the replicas that follow have read it
        declare(place, noop=False)
        load(ours, requests, 8, 2)
        since = time.time_ns() // 1_000
        result = load(ours, requests, 8, seconds)
        share = cache_hit_share(place, since)
        print(f"cache of {entries:6,}: {result['rate']:,.0f} requests/s, p50 {result['p50']:.2f} ms, {share:.0%} hits")


def cache_hit_share(place: Platform, since: int) -> float:
    """Of the decisions logged since a moment, in microseconds since 1970, how many the cache answered."""
    hits = total = 0
    for segment in list_segments(place.environment.decisions_folder, PRODUCT):
        if segment.path.stat().st_mtime_ns // 1_000 < since:
            continue
        for line in SegmentContent(segment).lines():
            if line.is_decision:
                content, _ = split_decision(line.payload)
                if content["answered_at"] >= since:
                    hits, total = hits + content["cache_hits"], total + 1
    return hits / total


def report(found: Mapping[tuple[str, str], Mapping[str, float]]) -> None:
    """The table, and the ratios."""
    print(f"{'':8}{'load':>6}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    for (name, kind), result in sorted(found.items(), key=lambda item: item[0][1].zfill(4)):
        print(f"{name:8}{kind:>6}{result['rate']:12,.0f}{result['p50']:9.2f}{result['p99']:9.2f}")
    ratios = {
        f"ratio_{kind}": round(found["ours", kind]["rate"] / found["peer", kind]["rate"], 2)
        for kind in ("1", "8", "32", "rank")
    }
    ceiling = round(found["ours", "8"]["rate"] / found["noop", "8"]["rate"], 2)
    print(json.dumps(ratios | {"of_ceiling": ceiling}))


def main() -> None:
    """See the module."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=Path, help="where the platform is kept for the next run")
    arguments.add_argument("--rounds", type=int, default=3, help="counted rounds (default: 3)")
    arguments.add_argument("--seconds", type=int, default=8, help="length of one load (default: 8)")
    chosen = arguments.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed.\nHint: apt-get install -y wrk")
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlway-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        redis = stack.enter_context(redis_server(folder))
        place = stack.enter_context(platform(folder, redis))
        url = product_url(place, place.project.products[PRODUCT])
        other = stack.enter_context(peer())
        ours = Contestant("ours", f"{url}/predict", {"Authorization": f"Bearer {local_key(place.environment)}"})
        noop = Contestant("noop", url.removesuffix("/flight-delay") + "/noop", {})
        found = measure(place, ours, noop, other, chosen.seconds, chosen.rounds)
        measure_cache(place, folder, ours, chosen.seconds)
        report(found)


if __name__ == "__main__":
    main()
