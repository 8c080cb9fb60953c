"""Replicas grow under load and shrink after it: one product between 1 and 3 replicas, and load in steps.

Usage: python benchmarks/autoscaling.py [--folder FOLDER] [--picture FILE]. The platform is that of serve.py. wrk asks
over a few connections, then over as many as two and then as three replicas are wanted for, then over few again, until
Ray stops what is no longer needed: with requests in hand, so that one that is lost would show. Every second Serve's
REST API is asked how many replicas run. The delays are a product's defaults.

The last line is one JSON object: `grow_seconds` from the beginning of the first higher step until all 3 replicas
run, `shrink_seconds` from the end of the highest until 1 is left, `failed` requests, which must be none.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

import serve
from online_read import redis_server

from mlway_assets.local.local_key import local_key
from mlway_assets.local.up import open_serve_api, product_url
from mlway_assets.resources import Platform

MINIMUM, MAXIMUM = 1, 3
# The same platform as serve.py's elsewhere, and with replicas that come and go.
serve.PORTS = (
    "serve=27000,dagster=27300,mlflow=27500,ray_dashboard=27265,"
    "ray_head=25399,haproxy_metrics=27101,haproxy_stats=27404,grpc=27001"
)
serve.REPLICAS = MINIMUM
serve.ENDPOINT = {
    "min_replicas": MINIMUM, "max_replicas": MAXIMUM, "max_ongoing_requests": 64, "cache_entries": 0
}  # fmt: skip
STEPS = ((4, 15), (24, 40), (64, 60), (4, 100))
"""Connections and seconds; `target_ongoing_requests` is 8."""
HIGHEST = 2
LONGEST_WAIT_SECONDS = 120
_ID_LENGTH = len("0" * 32 + "\n")


class Sample(NamedTuple):
    """One second."""

    second: float
    connections: int
    running: int
    states: dict[str, int]
    rate: float


class Watch:
    """Samples since it was made."""

    def __init__(self, place: Platform) -> None:
        self._api = open_serve_api(place)
        self._began = perf_counter()
        self.samples: list[Sample] = []

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return perf_counter() - self._began

    def sample(self, connections: int, rate: float) -> int:
        """Ask, keep and print; gives how many replicas run."""
        deployment = self._api.applications()[serve.PRODUCT]["deployments"][serve.PRODUCT]
        states = Counter(replica["state"] for replica in deployment["replicas"])
        sample = Sample(round(self.now, 1), connections, states["RUNNING"], dict(states), rate)
        last = self.samples[-1] if self.samples else None
        self.samples.append(sample)
        if (
            last is None
            or (last.states, last.connections) != (sample.states, connections)
            or len(self.samples) % 5 == 0
        ):
            print(f"{sample.second:8.1f}{connections:13}{rate:12,.0f}{sample.running:10}  {dict(states)}", flush=True)
        return sample.running


def step(
    watch: Watch, asked: serve.Contestant, requests: Sequence[bytes], connections: int, seconds: int
) -> dict[str, Any]:
    """Wrk's figures for one load, sampled every second of it."""
    with tempfile.TemporaryDirectory(prefix="mlway-bench-") as folder:
        ids = Path(folder, "ids")
        with serve.running_load(asked, requests, connections, seconds, ids) as process:
            size, at = 0, watch.now
            while process.poll() is None:
                sleep(1)  # the interval of the samples
                grown, now = ids.stat().st_size if ids.exists() else 0, watch.now
                watch.sample(connections, (grown - size) / _ID_LENGTH / (now - at))
                size, at = grown, now
            output, _ = process.communicate()
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


def wait_for_the_minimum(watch: Watch) -> None:
    """Without load, in case replicas are left."""
    end = watch.now + LONGEST_WAIT_SECONDS
    while watch.sample(0, 0.0) > MINIMUM:
        if watch.now > end:
            sys.exit(f"more than {MINIMUM} replicas still run")
        sleep(1)


def draw(samples: Sequence[Sample], file: Path) -> None:
    """Replicas and requests per second over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, sharex=True, figsize=(9, 5), height_ratios=(2, 1))
    seconds = [sample.second for sample in samples]
    above.plot(seconds, [sample.rate for sample in samples], color="tab:blue", label="requests/s")
    above.set_ylabel("requests/s")
    connections = above.twinx()
    connections.step(seconds, [sample.connections for sample in samples], color="tab:gray", where="post", linestyle=":")
    connections.set_ylabel("connections")
    below.step(seconds, [sample.running for sample in samples], color="tab:red", where="post")
    below.set_ylabel("replicas running")
    below.set_yticks(range(MAXIMUM + 1))
    below.set_xlabel("seconds")
    figure.suptitle(f"{serve.PRODUCT}: {MINIMUM} to {MAXIMUM} replicas")
    figure.tight_layout()
    figure.savefig(file)


def report(watch: Watch, begins: Sequence[float], figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all steps as one object. Exits where replicas did not grow to the maximum."""
    began, ended = begins[1], begins[HIGHEST + 1]
    grown = [sample.second for sample in watch.samples if sample.second >= began and sample.running == MAXIMUM]
    if not grown:
        sys.exit(f"never did {MAXIMUM} replicas run")
    since = max(ended, grown[0])
    shrunk = [sample.second for sample in watch.samples if sample.second > since and sample.running == MINIMUM]
    return {
        "grow_seconds": round(grown[0] - began, 1),
        "shrink_seconds": round(shrunk[0] - ended, 1),
        "failed": sum(figure["failed"] for figure in figures),
        "requests": sum(figure["requests"] for figure in figures),
    }


def main() -> None:
    """See the module."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=Path, help="where the platform is kept for the next run")
    arguments.add_argument("--picture", type=Path, default=Path("autoscaling.png"), help="PNG file to draw")
    chosen = arguments.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed.\nHint: apt-get install -y wrk")
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlway-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        place = stack.enter_context(serve.platform(folder, stack.enter_context(redis_server(folder))))
        key = local_key(place.environment)  # before the replicas, which read the keys as they start
        serve.declare(place, noop=False)
        url = f"{product_url(place, place.project.products[serve.PRODUCT])}/predict"
        ours = serve.Contestant("ours", url, {"Authorization": f"Bearer {key}"})
        requests = serve.bodies(serve.instances(place, 2_000), 1)
        watch, begins, figures = Watch(place), [], []
        print(f"{'second':>8}{'connections':>13}{'requests/s':>12}{'replicas':>10}")
        for connections, seconds in STEPS:
            begins.append(watch.now)
            figures.append(step(watch, ours, requests, connections, seconds))
        wait_for_the_minimum(watch)
    for (connections, _), figure in zip(STEPS, figures, strict=True):
        print(f"{connections:4} connections: {figure}")
    draw(watch.samples, chosen.picture)
    print(chosen.picture)
    result = report(watch, begins, figures)
    print(json.dumps(result))
    if result["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
