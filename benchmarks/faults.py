"""What load sees of a change or a fault: 8 connections ask without a pause while one thing after another happens.

Usage: python benchmarks/faults.py [--folder FOLDER] [--seconds N]. The platform is that of serve.py. For each fault:
requests, how many failed, the longest wait, and the longest time without an answer. Afterwards every decision id that a
client got is looked up in the decision log: an answer without a record is a failure of the benchmark, as is a change
(another version, a replica more or fewer) that fails a request. Overload is overload.py's. The last line is one JSON
object.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import psutil
from online_read import redis_server
from serve import PRODUCT, REPLICAS, Contestant, bodies, declare, instances, platform, running_load

from configs.environments import Environment
from mlway_assets.local.local_key import local_key
from mlway_assets.local.process_manager import wait_until
from mlway_assets.local.up import open_serve_api, product_url
from mlway_assets.resources import Platform
from mlway_assets.rollout import desired_versions
from serving.decision_segments import SegmentContent, list_segments
from serving.deploy import code_digest, serve_config

_DECISION = re.compile(rb'\{"decision":"([0-9a-f]+)"')
CHANGES = ("another version", "one replica fewer", "one replica more")


def processes(place: Platform, word: str) -> list[psutil.Process]:
    """Ours whose command line has the word."""
    state = str(place.environment.state)
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MLWAY_STATE") == state and word in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def kill(place: Platform, word: str) -> None:
    """`kill -9` of one of them."""
    found = processes(place, word)
    if not found:
        sys.exit(f"no process is called {word}")
    os.kill(found[0].pid, signal.SIGKILL)


def redeclare(place: Platform, replicas: int, version: int | None = None) -> None:
    """The product with so many replicas, and perhaps another version."""
    served = desired_versions(place)
    config = serve_config(place.project, place.environment, "local", served, code_digest())
    [application] = [each for each in config["applications"] if each["name"] == PRODUCT]
    deployment = application["deployments"][0]
    deployment["autoscaling_config"] = {"min_replicas": replicas, "max_replicas": replicas}
    if version is not None:
        deployment["user_config"] = deployment["user_config"] | {"version": version}
    open_serve_api(place).declare(config | {"applications": [application]})


def copy_version(environment: Environment, version: int) -> int:
    """The served version's files under the next number: another version with other bits is not needed to switch."""
    models = Path(environment.model_store) / PRODUCT
    shutil.copytree(models / str(version), models / str(version + 1000), dirs_exist_ok=True)
    return version + 1000


def load_during(
    asked: Contestant, requests: Sequence[bytes], connections: int, seconds: int, happen: Callable[[], None]
) -> dict[str, Any]:
    """Wrk's figures for a load in whose first third something happens, and the decisions that it was answered."""
    with tempfile.TemporaryDirectory(prefix="mlway-bench-") as folder:
        ids = Path(folder, "ids")
        with running_load(asked, requests, connections, seconds, ids) as process:
            wait_until(lambda: ids.exists() and ids.stat().st_size > 0, 10)
            happen()
            output, _ = process.communicate()
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        return found | {"decisions": ids.read_text(encoding="ascii").split()}


class Watch:
    """Asks on a new connection ten times a second, and knows the longest time in which there was no answer."""

    def __init__(self, url: str) -> None:
        self._ready = url.removesuffix("/predict") + "/ready"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._last, self._longest = perf_counter(), 0.0
        self._thread.start()

    def outage(self) -> float:
        """Its seconds, once there is an answer again. Ends the watch, and the benchmark where none comes."""
        if not wait_until(lambda: is_up(self._ready), 180):
            sys.exit(f"{self._ready} did not come back within 180 s")
        self._done.set()
        self._thread.join()
        return round(max(self._longest, perf_counter() - self._last), 1)

    def _run(self) -> None:
        while not self._done.wait(0.1):
            if is_up(self._ready):
                now = perf_counter()
                self._longest, self._last = max(self._longest, now - self._last), now


def is_up(url: str) -> bool:
    """Whether it answers now."""
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def logged(environment: Environment) -> set[str]:
    """The ids of the product's decisions, in whole segments whose chain holds. Raises ChainError."""
    ids: set[str] = set()
    for segment in list_segments(environment.decisions_folder, PRODUCT):
        content = SegmentContent(segment)
        found = (_DECISION.match(line.payload) for line in content.lines() if line.is_decision)
        ids.update(each[1].decode() for each in found if each)
    return ids


def scenarios(place: Platform) -> Mapping[str, Callable[[], None]]:
    """What happens, by name."""
    served = desired_versions(place)[PRODUCT]
    if served is None:
        sys.exit(f"{PRODUCT} has no champion")
    other = copy_version(place.environment, served.version)
    return {
        "nothing": lambda: None,
        "another version": lambda: redeclare(place, REPLICAS, other),
        "one replica fewer": lambda: redeclare(place, REPLICAS - 1),
        "one replica more": lambda: redeclare(place, REPLICAS),
        "kill -9 of a replica": lambda: kill(place, f"ray::ServeReplica:{PRODUCT}"),
        "kill -9 of HAProxy": lambda: kill(place, "haproxy.cfg"),
        "kill -9 of the controller": lambda: kill(place, "ray::ServeController"),
    }


def main() -> None:
    """See the module."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=Path, help="where the platform is kept for the next run")
    arguments.add_argument("--seconds", type=int, default=20, help="length of one load (default: 20)")
    chosen = arguments.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlway-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        place = stack.enter_context(platform(folder, stack.enter_context(redis_server(folder))))
        declare(place, noop=False)
        url = f"{product_url(place, place.project.products[PRODUCT])}/predict"
        ours = Contestant("ours", url, {"Authorization": f"Bearer {local_key(place.environment)}"})
        flights = instances(place, 2_000)
        decisions: list[str] = []
        for name, happen in scenarios(place).items():
            watch = Watch(url)
            results[name] = load_during(ours, bodies(flights, 1), 8, chosen.seconds, happen)
            decisions += results[name].pop("decisions")
            results[name]["outage_seconds"] = watch.outage()
            print(f"{name:28} {results[name]}", flush=True)
        unlogged = len(set(decisions) - logged(place.environment))
        print(f"{len(decisions):,} decisions were answered; {unlogged} of them are not in the log")
    failed = {name: result["failed"] for name, result in results.items()}
    outages = {name: result["outage_seconds"] for name, result in results.items()}
    print(json.dumps({"failed": failed, "outage_seconds": outages, "answered": len(decisions), "unlogged": unlogged}))
    if unlogged or any(failed[name] for name in CHANGES):
        sys.exit(1)


if __name__ == "__main__":
    main()
