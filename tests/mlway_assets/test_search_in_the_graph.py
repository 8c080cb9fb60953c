"""A product that declares a search, through the whole graph: its trials in MLflow, its figures with the candidate."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from tests_support import open_small_platform
from training_examples import SPACE

from mlway_assets.asset_keys import candidate_key
from mlway_assets.compute.search_plots import HISTORY
from mlway_assets.local.graph import plan, run_jobs
from mlway_assets.models import train_candidate
from mlway_assets.registry import DIGEST_TAG
from mlway_assets.resources import Platform

PRODUCT = "flight_delay"
SEARCH = {"trials": 3, "trials_at_once": 2, "space": SPACE, "folds": {"number": 2, "validate_days": 5}}


@pytest.fixture
def searching(copied: tuple[Platform, dg.DagsterInstance]) -> tuple[Platform, dg.DagsterInstance]:
    """The small platform, whose classifier declares a search."""
    platform, instance = copied
    folder: Path = platform.environment.state.parent / "configs"
    _change(folder / "products" / f"{PRODUCT}.yaml", _declare_search)
    _change(folder / "environments" / "local.yaml", lambda content: content.update(trials={"workers": 1}))
    return open_small_platform(folder), instance


def _declare_search(content: dict[str, Any]) -> None:
    content["gate"]["champion_margin"] = 0.5
    content["training"]["search"] = SEARCH


def _change(file: Path, change: Any) -> None:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(yaml.safe_dump(content), encoding="utf-8")


def test_a_declared_search_is_recorded_with_its_candidate_and_gives_the_same_files_again(
    searching: tuple[Platform, dg.DagsterInstance],
) -> None:
    platform, instance = searching
    run_jobs(platform, instance, plan(platform, ["train"], products=[PRODUCT]), lambda *_: None)
    event = instance.get_latest_materialization_event(candidate_key(PRODUCT))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    client, parent = platform.registry.client, str(metadata["mlflow_run_id"].value)
    run = client.get_run(parent)

    trials = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert len(trials) == metadata["search_trials"].value == 3
    assert {trial.info.status for trial in trials} == {"FINISHED"}
    assert {trial.data.tags["mlway.trial_state"] for trial in trials} <= {"complete", "pruned"}
    assert all("fold_roc_auc" in trial.data.metrics and "learning_rate" in trial.data.params for trial in trials)
    folds = client.get_metric_history(trials[-1].info.run_id, "fold_roc_auc")
    assert [each.step for each in folds] == [1, 2]

    number = str(metadata["search_best_trial"].value)
    assert run.data.tags["mlway.search_best_trial"] == number
    [best] = [trial for trial in trials if trial.info.run_name == f"trial {number}"]
    assert best.data.metrics["mean_roc_auc"] == metadata["search_roc_auc"].value
    assert best.data.params.items() <= run.data.params.items(), "the candidate is trained with the best parameters"
    assert json.loads(json.dumps(metadata["search_parameters"].value)).keys() == best.data.params.keys()
    assert "data:image/png" in str(metadata[HISTORY].value)
    assert f"plots/{HISTORY}.png" in {item.path for item in client.list_artifacts(parent, "plots")}

    again = train_candidate(platform.project.products[PRODUCT], platform)
    assert client.get_run(again.run_id).data.tags[DIGEST_TAG] == run.data.tags[DIGEST_TAG]
