"""Search a product's parameters: seeded tries, compared over folds that lie in the order of time.

How the tries of one round are spread over processes or machines is in mlway_assets/trials.py. Nothing here depends on
that: a round is chosen as a whole, evaluated in whatever way, and told in the order of its numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import mean
from typing import TYPE_CHECKING, Literal

import polars as pl

from configs.errors import MlwayError
from configs.products import ModelProduct
from configs.search import Choice, IntRange, Search, SearchRange, Value
from configs.splits import Split
from mlway_assets.compute.boosting import fit_boosters, require_known
from mlway_assets.compute.evaluation import NothingToRankError, OneClassError
from mlway_assets.compute.measurement import measure
from mlway_assets.compute.population import part_of
from mlway_assets.compute.training import learn_contract, scoring_model

if TYPE_CHECKING:
    import optuna

Parameters = Mapping[str, Value]
State = Literal["complete", "pruned", "failed"]


class SearchError(MlwayError):
    """A search cannot begin, or has found nothing."""


@dataclass(frozen=True)
class Try:
    """Parameters to be evaluated on one fold."""

    fold: int
    parameters: Parameters


@dataclass(frozen=True)
class Outcome:
    """The gate's metric of one try, or why there is none."""

    value: float | None
    rounds: int = 0
    problem: str = ""


Evaluate = Callable[[Sequence[Try]], Sequence[Outcome]]
"""Evaluates tries, in any way and order; gives their outcomes in the order of the tries."""


@dataclass(frozen=True)
class Trial:
    """One set of parameters, what it reached on each fold that it came to, and how it ended."""

    number: int
    parameters: Parameters
    outcomes: tuple[Outcome, ...] = ()
    state: State = "complete"

    @property
    def values(self) -> list[float]:
        """The gate's metric by fold."""
        return [outcome.value for outcome in self.outcomes if outcome.value is not None]

    @property
    def value(self) -> float:
        """The mean over its folds so far."""
        return mean(self.values)

    @property
    def problem(self) -> str:
        """Why it failed."""
        return self.outcomes[-1].problem if self.state == "failed" else ""


@dataclass(frozen=True)
class Study:
    """All trials of a search, in order, and the best of those that came to the end."""

    metric: str
    is_lower_better: bool
    trials: tuple[Trial, ...]

    @property
    def complete(self) -> list[Trial]:
        """The trials that were evaluated on every fold."""
        return [trial for trial in self.trials if trial.state == "complete"]

    @property
    def best(self) -> Trial:
        """The complete trial with the best mean; the first of several that are equal."""
        return (min if self.is_lower_better else max)(self.complete, key=lambda trial: trial.value)

    def count(self, state: State) -> int:
        """How many trials ended so."""
        return sum(trial.state == state for trial in self.trials)


def fold_splits(product: ModelProduct, search: Search) -> list[Split]:
    """The parts of each fold, the oldest first: `train` is learned from, `validate` are the days that follow.

    Raises SearchError where the folds reach back behind the first day there is to learn from.
    """
    whole, days = product.training.split, timedelta(days=search.folds.validate_days)
    cuts = [whole.train_until - days * number for number in range(search.folds.number, 0, -1)]
    if whole.train_from is not None and cuts[0] <= whole.train_from:
        raise _empty_fold(product, 1, "learn", cuts[0])
    return [
        # A fold has no test part; a split has one.
        Split(train_from=whole.train_from, train_until=cut, validate_until=cut + days, test_until=cut + 2 * days)
        for cut in cuts
    ]


def search_rows(product: ModelProduct, search: Search, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that a search may see, those of the training part.

    Raises SearchError where a fold would be empty, and UnknownParameterError.
    """
    require_known(search.space)
    rows = part_of(frame, product, "train")
    for number, split in enumerate(fold_splits(product, search), 1):
        folded = product.with_split(split)
        if not len(part_of(rows, folded, "train")):
            raise _empty_fold(product, number, "learn", split.train_until)
        if not len(part_of(rows, folded, "validate")):
            raise _empty_fold(product, number, "be validated", split.train_until)
    return rows


def evaluate_try(
    product: ModelProduct, features: dict[str, str], search: Search, rows: pl.DataFrame, wanted: Try
) -> Outcome:
    """Train on one fold as a candidate is trained, and measure it by the gate's metric, on one core.

    Parameters that LightGBM refuses are an outcome. Raises SearchError where the fold's days cannot tell good from bad,
    RelevanceError.
    """
    from lightgbm.basic import LightGBMError

    folded = product.with_split(fold_splits(product, search)[wanted.fold]).without_interval()
    training, held_out = part_of(rows, folded, "train"), part_of(rows, folded, "validate")
    contract = learn_contract(folded, features, training)
    try:
        [booster] = fit_boosters(folded, contract, training, held_out, {**wanted.parameters, "num_threads": 1})
    except LightGBMError as error:
        return Outcome(None, problem=str(error))
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    try:
        found = measure(folded, held_out, scoring_model([text], contract).scores(held_out))
    except (OneClassError, NothingToRankError) as error:
        raise SearchError(f"Fold {wanted.fold + 1} of the search of {product.name}: {error}") from error
    return Outcome(found[product.gate.metric_name], booster.best_iteration)


def run_search(product: ModelProduct, search: Search, evaluate: Evaluate) -> Study:
    """Try `search.trials` sets of parameters, the declared one first. The same product and rows give the same study.

    Raises SearchError where no trial came to its end.
    """
    study = _open_study(product, search)
    study.enqueue_trial({name: value for name, value in _declared(product).items() if name in search.space})
    found: list[Trial] = []
    while len(found) < search.trials:
        found += _round(product, search, study, min(search.trials_at_once, search.trials - len(found)), evaluate)
    ended = Study(product.gate.metric_name, product.gate.is_lower_better, tuple(found))
    if not ended.complete:
        raise SearchError(
            f"None of the {len(found)} trials of {product.name} came to its end; the first: {found[0].problem}.\n"
            "Hint: look at `training.search.space` and the parameters in the product's file."
        )
    return ended


def _round(product: ModelProduct, search: Search, study: "optuna.Study", size: int, evaluate: Evaluate) -> list[Trial]:
    """Trials that are chosen together and go from fold to fold together, but for those that end on the way."""
    space = {name: _distribution(values) for name, values in search.space.items()}
    asked = [study.ask(space) for _ in range(size)]
    trials = {each.number: Trial(each.number, {**_declared(product), **each.params}) for each in asked}
    running = asked
    for fold in range(search.folds.number):
        if not running:
            break
        tries = [Try(fold, trials[each.number].parameters) for each in running]
        for each, outcome in zip(running, evaluate(tries), strict=True):
            trials[each.number] = _after(trials[each.number], outcome, each, is_last=fold + 1 == search.folds.number)
        running = [each for each in running if trials[each.number].state == "complete"]
    for each in asked:
        _tell(study, each, trials[each.number])
    return list(trials.values())


def _after(trial: Trial, outcome: Outcome, asked: "optuna.Trial", *, is_last: bool) -> Trial:
    """The trial with one more outcome. Pruning compares it with trials of earlier rounds alone."""
    after = replace(trial, outcomes=(*trial.outcomes, outcome))
    if outcome.value is None:
        return replace(after, state="failed")
    asked.report(after.value, len(after.values))
    return replace(after, state="pruned") if not is_last and asked.should_prune() else after


def _tell(study: "optuna.Study", asked: "optuna.Trial", trial: Trial) -> None:
    from optuna.trial import TrialState

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    study.tell(asked, trial.value if trial.state == "complete" else None, states[trial.state])


def _open_study(product: ModelProduct, search: Search) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if search.pruning is not None:
        pruner = optuna.pruners.MedianPruner(search.pruning.first_trials, search.pruning.first_folds)
    return optuna.create_study(
        direction="minimize" if product.gate.is_lower_better else "maximize",
        sampler=optuna.samplers.TPESampler(seed=product.training.seed),
        pruner=pruner,
    )


def _declared(product: ModelProduct) -> dict[str, Value]:
    return dict(product.training.algorithms.lightgbm or {})


def _distribution(values: SearchRange) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if isinstance(values, IntRange):
        return IntDistribution(values.low, values.high, log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _empty_fold(product: ModelProduct, number: int, purpose: str, cut: datetime) -> SearchError:
    return SearchError(
        f"Fold {number} of the search of {product.name}, cut at {cut:%Y-%m-%d}, has no rows to {purpose} from.\n"
        "Hint: declare fewer `training.search.folds`, or fewer days of each."
    )
