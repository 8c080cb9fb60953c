"""What a candidate was chosen from, through the whole graph: trials and algorithms, and that the chosen one serves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import yaml
from tests_support import open_small_platform
from training_examples import SPACE

from mlway_assets.asset_keys import candidate_key
from mlway_assets.compute.search_plots import HISTORY
from mlway_assets.local.graph import plan, run_jobs
from mlway_assets.models import train_candidate
from mlway_assets.registry import DIGEST_TAG
from mlway_assets.resources import Platform
from serving.predictor import build_predictor

PRODUCT = "flight_delay"
SEARCH = {"trials": 3, "trials_at_once": 2, "space": SPACE, "folds": {"number": 2, "validate_days": 5}}


def with_training(platform: Platform, **training: Any) -> Platform:
    """The small platform, whose classifier is trained otherwise, and may be somewhat worse than the champion."""
    folder: Path = platform.environment.state.parent / "configs"
    product, environment = folder / "products" / f"{PRODUCT}.yaml", folder / "environments" / "local.yaml"
    content = yaml.safe_load(product.read_text(encoding="utf-8"))
    content["gate"]["champion_margin"] = 0.5
    content["training"] |= training
    product.write_text(yaml.safe_dump(content), encoding="utf-8")
    content = yaml.safe_load(environment.read_text(encoding="utf-8")) | {"trials": {"workers": 1}}
    environment.write_text(yaml.safe_dump(content), encoding="utf-8")
    return open_small_platform(folder)


def trained(platform: Platform, instance: dg.DagsterInstance, *jobs: str) -> Mapping[str, dg.MetadataValue]:
    """What the graph says of the candidate of a training."""
    run_jobs(platform, instance, plan(platform, ["train", *jobs], products=[PRODUCT]), lambda *_: None)
    event = instance.get_latest_materialization_event(candidate_key(PRODUCT))
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization.metadata


def test_a_declared_search_is_recorded_with_its_candidate_and_gives_the_same_files_again(
    copied: tuple[Platform, dg.DagsterInstance],
) -> None:
    platform = with_training(copied[0], search=SEARCH)
    metadata = trained(platform, copied[1])
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

    again = train_candidate(platform.project.products[PRODUCT], platform, "a test")
    assert client.get_run(again.run_id).data.tags[DIGEST_TAG] == run.data.tags[DIGEST_TAG]


def test_the_best_algorithm_serves_and_the_others_are_recorded_beside_it(
    copied: tuple[Platform, dg.DagsterInstance],
) -> None:
    algorithms = {"histogram_boosting": {}, "logistic_regression": {"bins": 10}}
    platform = with_training(copied[0], algorithms=algorithms)
    metadata = trained(platform, copied[1])
    client, parent = platform.registry.client, str(metadata["mlflow_run_id"].value)
    run = client.get_run(parent)
    nested = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    reached = {each.data.tags["mlway.algorithm"]: each.data.metrics["validation_roc_auc"] for each in nested}
    assert set(reached) == set(algorithms)
    chosen = run.data.params["algorithm"]
    assert reached[chosen] == max(reached.values()) == run.data.metrics["validation_roc_auc"]
    assert {each.data.params.get("bins") for each in nested} == {None, "10"}
    table = str(metadata["algorithms"].value).splitlines()
    assert [line for line in table if f"**{chosen}**" in line]
    assert len(table) == 4

    platform.registry.promote(PRODUCT, 2)
    run_jobs(platform, copied[1], plan(platform, ["predict"], products=[PRODUCT]), lambda *_: None)
    assert_answers_as_the_batch(platform)


def assert_answers_as_the_batch(platform: Platform) -> None:
    """The endpoint's predictor gives the batch's bits, and contributions that sum to the log odds."""
    champion, product = platform.registry.require_champion(PRODUCT), platform.project.products[PRODUCT]
    predictor = build_predictor(platform.project, platform.environment, product)
    predictor.use(champion.version, champion.digest)
    batch = platform.lake.scan("predictions", PRODUCT).collect()
    batch = batch.filter(pl.col("event_timestamp") == platform.clock.now())
    assert batch["model_version"].unique().to_list() == [2]
    answer = predictor.predict(batch.select(*product.population.request).to_dict(as_series=False))
    scores = np.array([each.score for each in answer.scores])
    assert scores.tolist() == batch["score"].to_list()
    assert answer.scoring is not None
    assert answer.matrix is not None
    log_odds = answer.scoring.contributions(answer.matrix).sum(axis=1)
    np.testing.assert_allclose(1 / (1 + np.exp(-log_odds)), scores, atol=1e-12)
