"""Replay a product's past under several retraining policies, from the tables of the lake."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from configs.products import ModelProduct
from configs.retraining import Trigger
from configs.splits import Split
from feature_repo.store import open_store
from mlway_assets.compute.backtest import POLICIES, Backtest, BacktestError, OnTraining, Replay
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
    triggers: dict[str, tuple[Trigger, ...]],
    on_training: OnTraining,
) -> list[Replay]:
    """Replay the days from `first` to `last` under each policy.

    Raises BacktestError, TrainingSetError, MissingTableError, OneClassError, NothingToRankError, RelevanceError.
    """
    rows = _rows(product, platform, last)
    _require_days(product, rows, first, last)
    features, unsettled = platform.project.model_features(product), longest_window(product, platform.project)
    backtest = Backtest(product, features, rows, unsettled, on_training)
    return [backtest.replay(name, asked, first, last) for name, asked in triggers.items()]


def _rows(product: ModelProduct, platform: Platform, last: date) -> pl.DataFrame:
    """Every labelled row up to the last day, with its features as of its own moment."""
    until = datetime.combine(last + timedelta(days=1), time(0), UTC)
    hour = timedelta(hours=1)  # the parts do not matter, but for where they end
    whole = Split(train_until=until - 2 * hour, validate_until=until - hour, test_until=until)
    version = platform.lake.version("curated", product.population.table)
    rows, _ = joined_rows(product.with_split(whole), platform, open_store(platform.environment), version)
    return rows


def _require_days(product: ModelProduct, rows: pl.DataFrame, first: date, last: date) -> None:
    moving = product.training.split.moving
    days = rows[product.population.event_time].dt.date()
    begin, end = days.min(), days.max()
    if not isinstance(begin, date) or not isinstance(end, date):
        raise BacktestError(f"{product.name} has no labelled rows.\nHint: run `mlway materialize ingest`.")
    if moving is not None and first - timedelta(days=moving.validate_days + moving.test_days + 7) < begin:
        raise BacktestError(
            f"The first training has no days to learn from: the rows begin with {begin}, and {first} is less than "
            f"{moving.validate_days} + {moving.test_days} days and a week after that.\nHint: choose a later --from."
        )
    if not first <= last <= end:
        raise BacktestError(f"The days from {first} to {last} are not all there: the rows end with {end}.")
