"""Time slices of a point-in-time join as Ray tasks: the same result, on as many machines as the cluster has."""

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from feature_repo.point_in_time import View
from feature_repo.slices import Join, join_slice, time_slices


def joined_on_ray(join: Join, rows: int, address: str | None) -> Iterator[pl.DataFrame]:
    """The joined slices in order. At most two for each of the cluster's processors are on their way at a time.

    `address` is the cluster's, `local` starts one on this machine; None takes the one that RAY_ADDRESS or an earlier
    `ray.init` names. Raises what a task raises.
    """
    import ray

    connect(address)
    task: Any = ray.remote(_join)
    views = ray.put(list(join.views))
    processors = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
    most = max(2, 2 * int(processors))
    waiting: deque[Any] = deque()
    for part in time_slices(join, rows):
        if len(waiting) == most:
            yield ray.get(waiting.popleft())
        waiting.append(task.remote(part, join.timestamp, views))
    while waiting:
        yield ray.get(waiting.popleft())


def connect(address: str | None) -> None:
    """Make this process one of the cluster's, if it is in none yet. `address` as in `joined_on_ray`."""
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A cluster of our own is for this machine alone.
    own: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)


def _join(part: pl.DataFrame, timestamp: str, views: Sequence[View]) -> pl.DataFrame:
    return join_slice(part, timestamp, views)
