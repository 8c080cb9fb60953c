"""Replay a product's past under several retraining policies, from the tables of the lake."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from configs.products import ModelProduct
from configs.retraining import Trigger
from configs.splits import Split
from feature_repo.store import open_store
from mlway_assets.compute.backtest import POLICIES, Backtest, BacktestError, Replay, require_moving_parts
from mlway_assets.compute.shuffled_days import shuffled_days
from mlway_assets.drift_monitoring import longest_window
from mlway_assets.resources import Platform
from mlway_assets.training_sets import joined_rows

NEVER, DECLARED = "never", "declared"


def default_policy(product: ModelProduct) -> str:
    """The policy that the product's file declares, by its name where it has one."""
    triggers = set(product.retraining.triggers)
    return next((name for name, asked in POLICIES.items() if set(asked) == triggers), DECLARED)


def policies(product: ModelProduct, names: Sequence[str]) -> dict[str, tuple[Trigger, ...]]:
    """What each opens a training by; `never` and the product's own are always among them. Raises BacktestError."""
    known = POLICIES | {DECLARED: product.retraining.triggers}
    if unknown := [name for name in names if name not in known]:
        raise BacktestError(f"There is no policy {unknown[0]!r}. Known: {', '.join(known)}.")
    wanted = dict.fromkeys((NEVER, *names, default_policy(product)))
    return {name: known[name] for name in wanted}


def replay_policies(
    product: ModelProduct,
    platform: Platform,
    first: date,
    last: date,
    triggers: Mapping[str, tuple[Trigger, ...]],
    on_done: Callable[[str], None],
    shuffled_by: int | None = None,
) -> list[Replay]:
    """Replay the days from `first` to `last` under each policy, as many at once as there are cores.

    With `shuffled_by`, a seed, all days until the last are put in another order first.

    A training gains little from a second thread, and is the same to the bit with one: policies side by side, on one
    core each, are replayed in half the time. Raises BacktestError, TrainingSetError, MissingTableError, OneClassError,
    NothingToRankError, RelevanceError.
    """
    require_moving_parts(product)
    rows = _rows(product, platform, last)
    if shuffled_by is not None:
        rows = shuffled_days(rows, product, shuffled_by)
    _require_days(product, rows, first, last)
    features, unsettled = platform.project.model_features(product), longest_window(product, platform.project)
    workers = min(len(triggers), os.cpu_count() or 1)
    with TemporaryDirectory() as folder, _threads(max((os.cpu_count() or 1) // workers, 1)):
        file = Path(folder) / "rows.arrow"
        rows.write_ipc(file)
        # Not forked: threads of Polars and LightGBM do not survive that.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            replays = {
                pool.submit(_replay, product, features, file, unsettled, name, asked, first, last): name
                for name, asked in triggers.items()
            }
            for done in as_completed(replays):
                done.result()
                on_done(replays[done])
        return [done.result() for done in replays]


def _replay(
    product: ModelProduct,
    features: dict[str, str],
    file: Path,
    unsettled: timedelta,
    policy: str,
    triggers: tuple[Trigger, ...],
    first: date,
    last: date,
) -> Replay:
    """One policy, in a process of its own."""
    return Backtest(product, features, pl.read_ipc(file), unsettled).replay(policy, triggers, first, last)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Processes that begin meanwhile use so many threads each."""
    names = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ |= dict.fromkeys(names, str(number))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _rows(product: ModelProduct, platform: Platform, last: date) -> pl.DataFrame:
    """Every labelled row up to the last day, with its features as of its own moment."""
    until = datetime.combine(last + timedelta(days=1), time(0), UTC)
    hour = timedelta(hours=1)  # the parts do not matter, but for where they end
    whole = Split(train_until=until - 2 * hour, validate_until=until - hour, test_until=until)
    version = platform.lake.version("curated", product.population.table)
    rows, _ = joined_rows(product.with_split(whole), platform, open_store(platform.environment), version)
    return rows


def _require_days(product: ModelProduct, rows: pl.DataFrame, first: date, last: date) -> None:
    moving = require_moving_parts(product)
    days = rows[product.population.event_time].dt.date()
    begin, end = days.min(), days.max()
    if not isinstance(begin, date) or not isinstance(end, date):
        raise BacktestError(f"{product.name} has no labelled rows.\nHint: run `mlway materialize ingest`.")
    if first - timedelta(days=moving.validate_days + moving.test_days + 7) < begin:
        raise BacktestError(
            f"The first training has no days to learn from: the rows begin with {begin}, and {first} is less than "
            f"{moving.validate_days} + {moving.test_days} days and a week after that.\nHint: choose a later --from."
        )
    if not first <= last <= end:
        raise BacktestError(f"The days from {first} to {last} are not all there: the rows end with {end}.")
