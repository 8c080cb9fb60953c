"""Twice what the endpoint can do: what becomes of the requests, and of the memory.

Usage: python benchmarks/overload.py [--folder FOLDER] [--seconds N] [--rows N]. The platform is that of serve.py, and
the gRPC server. First callers who wait for their answers find the capacity; then requests come at twice that rate at
random moments, whether or not earlier ones were answered, with ten callers over gRPC besides. Accepted requests must
stay quick, the rest be refused with 429 or 503 and Retry-After, and no process grow.

The last line is one JSON object: capacity and rates in requests per second; `accepted` and `refused`, milliseconds from
when a request was due; `shares` by status, 0 where a connection broke; `grpc`, how often each code; `megabytes` of each
process at the start, in the middle and at the end.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import httpx
from faults import processes
from online_read import redis_server
from open_loop import Load, Outcome
from serve import CANDIDATES, PRODUCT, bodies, declare, instances, platform

from configs.load import PROJECT_ROOT
from mlway_assets.local.local_key import local_key
from mlway_assets.local.up import product_url
from mlway_assets.resources import Platform
from serving.open_inference import ProductTensors
from serving.open_inference_grpc import infer_request_message

CALLERS, GRPC_CALLERS = 32, 10
WARM_UP_SECONDS, CAPACITY_SECONDS = 5, 10
REFUSALS, GRPC_REFUSALS = (429, 503), ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
WATCHED = (f"ray::ServeReplica:{PRODUCT}", "haproxy.cfg", "serving.grpc_server")


@contextmanager
def grpc_server(place: Platform) -> Iterator[str]:
    """The Open Inference Protocol's server, and its address."""
    command = [sys.executable, "-m", "serving.grpc_server"]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.DEVNULL) as process:
        address = f"127.0.0.1:{place.environment.ports.grpc}"
        try:
            with grpc.insecure_channel(address) as channel:
                grpc.channel_ready_future(channel).result(timeout=60)
            yield address
        finally:
            process.terminate()


def grpc_request(place: Platform, flights: Sequence[Mapping[str, Any]]) -> bytes:
    """The flights as tensors."""
    product = place.project.products[PRODUCT]
    columns = {
        name: [str(flight[name]) if kind == "timestamp" else flight[name] for flight in flights]
        for name, kind in product.population.request.items()
    }
    return bytes(
        infer_request_message(PRODUCT, ProductTensors(product).tensors(columns), raw=False).SerializeToString()
    )


async def ask_by_grpc(address: str, key: str, request: bytes, seconds: float) -> Counter[str]:
    """Codes that callers get who ask without a pause, and how many refusals lack retry-after."""
    codes: Counter[str] = Counter()
    began = perf_counter()
    async with grpc.aio.insecure_channel(address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        async def caller() -> None:
            while perf_counter() - began < seconds:
                try:
                    await infer(request, metadata=(("authorization", f"Bearer {key}"),), timeout=30)
                    codes["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    codes[error.code().name] += 1
                    codes["without retry-after"] += "retry-after" not in dict(error.trailing_metadata() or ())
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(caller() for _ in range(GRPC_CALLERS)))
    return codes


def megabytes(place: Platform) -> dict[str, float]:
    """Resident memory by process."""
    found = [(word, process) for word in WATCHED for process in processes(place, word)]
    return {f"{word} {process.pid}": round(process.memory_info().rss / 2**20, 1) for word, process in found}


async def sampled(place: Platform, seconds: float) -> list[dict[str, float]]:
    """Memory at the start, in the middle and at the end."""
    samples = [megabytes(place)]
    for _ in range(2):
        await asyncio.sleep(seconds / 2)
        samples.append(megabytes(place))
    return samples


async def overload(
    place: Platform, load: Load, address: str, key: str, request: bytes, seconds: int
) -> tuple[float, list[Outcome], Counter[str], list[dict[str, float]]]:
    """The capacity, what became of twice that, the codes over gRPC, and the memory."""
    await load.closed(CALLERS, WARM_UP_SECONDS)
    capacity = await load.closed(CALLERS, CAPACITY_SECONDS)
    print(f"capacity: {capacity:,.0f} requests per second over {CALLERS} connections", flush=True)
    samples, codes, _ = await asyncio.gather(
        sampled(place, seconds), ask_by_grpc(address, key, request, seconds), load.open(2 * capacity, seconds)
    )
    load.close()
    return capacity, load.outcomes, codes, samples


def summary(
    capacity: float, seconds: int, outcomes: Sequence[Outcome], codes: Counter[str], samples: list[dict[str, float]]
) -> dict[str, Any]:
    """What the last line holds."""
    accepted = [each.seconds * 1e3 for each in outcomes if each.status == httpx.codes.OK]
    refused = [each for each in outcomes if each.status in REFUSALS]
    return {
        "capacity": round(capacity),
        "offered_per_second": round(len(outcomes) / seconds),
        "accepted_per_second": round(len(accepted) / seconds),
        "accepted": percentiles(accepted),
        "refused": percentiles([each.seconds * 1e3 for each in refused]),
        "shares": {str(status): round(count / len(outcomes), 4) for status, count in statuses(outcomes).items()},
        "refusals_without_retry_after": sum(not each.says_when for each in refused),
        "refusals_that_are_no_problem": sum(not each.is_problem for each in refused),
        "grpc": dict(codes),
        "megabytes": {name: [sample.get(name) for sample in samples] for name in samples[0]},
    }


def statuses(outcomes: Sequence[Outcome]) -> Counter[int]:
    """How often each."""
    return Counter(each.status for each in outcomes)


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and longest."""
    if len(milliseconds) < 2:
        return {}
    cuts = statistics.quantiles(milliseconds, n=100)
    return {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "longest": round(max(milliseconds), 1)}


def main() -> None:
    """See the module."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=Path, help="where the platform is kept for the next run")
    arguments.add_argument("--seconds", type=int, default=60, help="length of the overload (default: 60)")
    arguments.add_argument("--rows", type=int, default=CANDIDATES, help=f"in a request (default: {CANDIDATES})")
    chosen = arguments.parse_args()
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlway-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        place = stack.enter_context(platform(folder, stack.enter_context(redis_server(folder))))
        measure(place, chosen.seconds, chosen.rows)


def measure(place: Platform, seconds: int, rows: int) -> None:
    """On a running platform. Exits with 1 where a request was lost or failed with anything but a refusal."""
    declare(place, noop=False)
    flights, key = instances(place, 2_000), local_key(place.environment)
    url = f"{product_url(place, place.project.products[PRODUCT])}/predict"
    load = Load(url, [f"Authorization: Bearer {key}"], bodies(flights, rows))
    with grpc_server(place) as address:
        request = grpc_request(place, flights[:rows])
        capacity, outcomes, codes, samples = asyncio.run(overload(place, load, address, key, request, seconds))
    result = summary(capacity, seconds, outcomes, codes, samples)
    for name, value in result.items():
        print(f"{name:32} {value}")
    print(json.dumps(result))
    if set(statuses(outcomes)) - {httpx.codes.OK, *REFUSALS} or set(codes) - {
        "OK",
        *GRPC_REFUSALS,
        "without retry-after",
    }:
        sys.exit(1)


if __name__ == "__main__":
    main()
