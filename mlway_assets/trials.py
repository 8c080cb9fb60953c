"""Spread the tries of a search over processes of this machine, or over a Ray cluster. What is tried is in search.py."""

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from configs.environments import Trials
from configs.products import ModelProduct
from configs.search import Search
from feature_repo.ray_slices import connect
from mlway_assets.compute.search import Evaluate, Outcome, Study, Try, evaluate_try, run_search, search_rows


@dataclass(frozen=True)
class _Work:
    """What a try needs, but for the rows."""

    product: ModelProduct
    features: dict[str, str]
    search: Search

    def on(self, rows: pl.DataFrame, wanted: Try) -> Outcome:
        return evaluate_try(self.product, self.features, self.search, rows, wanted)


def search_parameters(
    product: ModelProduct, features: Mapping[str, str], search: Search, frame: pl.DataFrame, place: Trials
) -> Study:
    """The study of the product's declared search on the training part of `frame`, evaluated in `place`.

    Raises SearchError, RelevanceError.
    """
    rows = search_rows(product, search, frame)
    with _evaluation(_Work(product, dict(features), search), rows, place) as evaluate:
        return run_search(product, search, evaluate)


@contextmanager
def _evaluation(work: _Work, rows: pl.DataFrame, place: Trials) -> Iterator[Evaluate]:
    workers = min(place.workers or os.cpu_count() or 1, work.search.trials_at_once)
    if place.execution == "ray":
        yield _on_ray(work, rows, place.ray_address)
    elif workers == 1:
        yield lambda tries: [work.on(rows, wanted) for wanted in tries]
    else:
        with _processes(work, rows, workers) as evaluate:
            yield evaluate


@contextmanager
def _processes(work: _Work, rows: pl.DataFrame, workers: int) -> Iterator[Evaluate]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rows.arrow"
        rows.write_ipc(file)
        # Not forked: threads of Polars and LightGBM do not survive that.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            yield lambda tries: list(pool.map(partial(_on_file, work, file), tries))


def _on_file(work: _Work, file: Path, wanted: Try) -> Outcome:
    return work.on(pl.read_ipc(file), wanted)


def _on_ray(work: _Work, rows: pl.DataFrame, address: str | None) -> Evaluate:
    import ray

    connect(address)
    task: Any = ray.remote(num_cpus=1)(_on_rows)
    stored = ray.put(rows)
    return lambda tries: list(ray.get([task.remote(work, stored, wanted) for wanted in tries]))


def _on_rows(work: _Work, rows: pl.DataFrame, wanted: Try) -> Outcome:
    return work.on(rows, wanted)
