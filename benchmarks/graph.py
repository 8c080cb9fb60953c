"""The whole graph against the plain script of the same functions: whole processes, in turn, each from empty state.

Usage: python benchmarks/graph.py [pairs]. The last line is one JSON object; `ratio` is the graph's time / the script's.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).parent
GRAPH = [str(Path(sys.executable).parent / "mlway"), "materialize"]
SCRIPT = [sys.executable, str(HERE / "plain_graph.py")]


def seconds(command: list[str]) -> float:
    with tempfile.TemporaryDirectory(prefix="mlway-bench-") as folder:
        environment = os.environ | {"MLWAY_STATE": f"{folder}/state", "TZ": "UTC", "OMP_WAIT_POLICY": "passive"}
        started = perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        taken = perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return taken


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    graph, script = [], []
    for pair in range(pairs):
        # Turn and turn about: neither is always the one that finds the caches warm.
        for name, times, command in [("graph", graph, GRAPH), ("script", script, SCRIPT)][:: 1 if pair % 2 else -1]:
            times.append(seconds(command))
            print(f"{name:7}{times[-1]:7.1f} s", flush=True)
    ratio = statistics.median(a / b for a, b in zip(graph, script, strict=True))
    result = {
        "ratio": round(ratio, 3),
        "graph_seconds": round(statistics.median(graph), 1),
        "script_seconds": round(statistics.median(script), 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
