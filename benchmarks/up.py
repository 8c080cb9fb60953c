"""`mlway up` from empty state to the first answer, against a no-op Ray Serve application started the same way.

Usage: python benchmarks/up.py [pairs]. The last line is one JSON object; `ratio` is up's time without the graph's own
compute / the no-op's time from `ray start` to its first answer. The graph's own compute is what its jobs take when
nothing else runs: inside `up` they share the machine with the services that start, and that wait is up's.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import httpx

from configs.load import PROJECT_ROOT, load_environment
from mlway_assets.local.paths import local_paths
from mlway_assets.local.process_manager import ProcessManager, wait_until
from mlway_assets.local.services import RAY, build_services, prepare
from serving.deploy import ServeApi

MLWAY = str(Path(sys.executable).parent / "mlway")
PORTS = (
    "serve=28000,dagster=23000,mlflow=25000,ray_dashboard=28265,"
    "ray_head=26399,haproxy_metrics=29101,haproxy_stats=28404,grpc=28001"
)


def up_seconds() -> tuple[float, float]:
    """Seconds to the first answer, and how many of them the graph computed."""
    try:
        done = subprocess.run([MLWAY, "up", "--detach", "--json"], capture_output=True, text=True, check=False)
    finally:
        subprocess.run([MLWAY, "down"], capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    report = json.loads(done.stdout.splitlines()[-1])
    return report["answer_seconds"], report["graph_seconds"]


def graph_seconds() -> float:
    """Seconds that the graph's jobs take alone, as far as the first answer needs them."""
    done = subprocess.run(
        [MLWAY, "materialize", "--product", "flight_delay"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    found = re.search(r"Done in ([\d.]+) s", done.stdout)
    if found is None:
        sys.exit(f"`mlway materialize` did not say how long it took:\n{done.stdout}")
    return float(found[1])


def noop_seconds() -> float:
    """Seconds from the process manager's start to the no-op's first answer."""
    environment = load_environment()
    prepare(environment)
    paths = local_paths(environment)
    manager, api = ProcessManager(paths), ServeApi(environment, paths.ray_token)
    ray = [service for service in build_services(environment, "local") if service.name == RAY]
    http = {"host": "127.0.0.1", "port": environment.ports.serve}
    application = {"name": "noop", "route_prefix": "/noop", "import_path": "benchmarks.noop_app:build", "args": {}}
    started = perf_counter()
    manager.start(ray)
    try:
        wait_until(api.is_up, 120)
        api.declare({"proxy_location": "HeadOnly", "http_options": http, "applications": [application]})
        if not wait_until(lambda: _answers(f"http://127.0.0.1:{environment.ports.serve}/noop"), 120, every=0.05):
            sys.exit("the no-op application did not answer")
        return perf_counter() - started
    finally:
        manager.stop()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    ups, noops, ratios = [], [], []
    os.chdir(PROJECT_ROOT)
    for _ in range(pairs):
        with tempfile.TemporaryDirectory(prefix="mlway-bench-") as folder:
            os.environ |= {"MLWAY_PORTS": PORTS, "MLWAY_STATE": f"{folder}/noop"}
            Path(folder, "noop").mkdir()
            noops.append(noop_seconds())
            print(f"no-op  {noops[-1]:6.1f} s", flush=True)
            os.environ["MLWAY_STATE"] = f"{folder}/graph"
            alone = graph_seconds()
            print(f"graph  {alone:6.1f} s alone", flush=True)
            os.environ["MLWAY_STATE"] = f"{folder}/up"
            total, graph = up_seconds()
            ups.append(total - alone)
            print(f"up     {total:6.1f} s, of which the graph, beside the services, {graph:.1f} s", flush=True)
        ratios.append(ups[-1] / noops[-1])
    print(
        json.dumps(
            {
                "ratio": round(statistics.median(ratios), 3),
                "up_without_graph_seconds": round(statistics.median(ups), 1),
                "noop_seconds": round(statistics.median(noops), 1),
            }
        )
    )


if __name__ == "__main__":
    main()
