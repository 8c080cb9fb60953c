"""What a candidate was chosen from, in MLflow: trials and algorithms, each a run nested in the candidate's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlway_assets.compute.search import Study, Trial
from mlway_assets.compute.training import Considered

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALGORITHM_TAG = "mlway.algorithm"
BEST_TRIAL_TAG = "mlway.search_best_trial"
STATE_TAG = "mlway.trial_state"
PROBLEM_TAG = "mlway.trial_problem"
_PARENT_TAG = "mlflow.parentRunId"
_MOST_LETTERS = 5000
"""MLflow's limit for the value of a tag."""


def study_tags(study: Study) -> dict[str, str]:
    """What the candidate's own run says of the search."""
    return {BEST_TRIAL_TAG: str(study.best.number)}


def log_trials(client: "MlflowClient", parent: str, study: Study) -> None:
    """A nested run for each trial: its parameters, its metric by fold, its mean, and how it ended."""
    experiment = client.get_run(parent).info.experiment_id
    for trial in study.trials:
        _log_trial(client, experiment, parent, study.metric, trial)


def log_algorithms(client: "MlflowClient", parent: str, considered: Sequence[Considered]) -> None:
    """A nested run for each algorithm: its parameters, and its metrics on validation."""
    from mlflow.entities import Metric, Param

    experiment = client.get_run(parent).info.experiment_id
    for each in considered:
        tags = {_PARENT_TAG: parent, ALGORITHM_TAG: each.algorithm}
        run = client.create_run(experiment, tags=tags, run_name=each.algorithm)
        found = {"rounds_used": each.rounds} | {f"validation_{name}": value for name, value in each.metrics.items()}
        metrics = [Metric(name, value, run.info.start_time, 0) for name, value in found.items()]
        parameters = [Param(name, str(value)) for name, value in each.parameters.items()]
        client.log_batch(run.info.run_id, metrics=metrics, params=parameters)
        client.set_terminated(run.info.run_id)


def _log_trial(client: "MlflowClient", experiment: str, parent: str, metric: str, trial: Trial) -> None:
    from mlflow.entities import Metric, Param

    tags = {_PARENT_TAG: parent, STATE_TAG: trial.state}
    if trial.problem:
        tags[PROBLEM_TAG] = trial.problem[:_MOST_LETTERS]
    run = client.create_run(experiment, tags=tags, run_name=f"trial {trial.number}")
    begun = run.info.start_time
    metrics = [Metric(f"fold_{metric}", value, begun, fold) for fold, value in enumerate(trial.values, 1)]
    metrics += [Metric("rounds_used", outcome.rounds, begun, fold) for fold, outcome in enumerate(trial.outcomes, 1)]
    if trial.values:
        metrics.append(Metric(f"mean_{metric}", trial.value, begun, 0))
    parameters = [Param(name, str(value)) for name, value in trial.parameters.items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=parameters)
    client.set_terminated(run.info.run_id, "FAILED" if trial.state == "failed" else "FINISHED")
