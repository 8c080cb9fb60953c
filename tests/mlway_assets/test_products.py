"""Products of every task, through the whole graph: trained, judged, registered, scored; the same bits everywhere."""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import yaml
from tests_support import open_small_platform

from feature_repo.services import service_name
from feature_repo.store import historical_features, open_store
from mlway_assets.asset_keys import candidate_key
from mlway_assets.compute.measurement import measure
from mlway_assets.compute.population import QUERY, part_of
from mlway_assets.local.graph import RunError, plan, run_jobs
from mlway_assets.models import GateError, register_candidate
from mlway_assets.registry import DIGEST_TAG
from mlway_assets.resources import Platform
from mlway_assets.training_sets import LAYER
from serving.predictor import build_predictor
from serving.scoring import BOUND_FILES, MOST_SINGLE_ROWS, ModelFileError, feature_matrix, load_model

PRODUCTS = ("flight_delay", "arrival_delay", "flight_ranking")
METRICS = {
    "flight_delay": {"roc_auc", "average_precision", "log_loss", "brier", "calibration_error", "baseline_roc_auc"},
    "arrival_delay": {"mae", "rmse", "bias", "r2", "coverage", "interval_width", "baseline_mae"},
    "flight_ranking": {"ndcg_at_5", "queries", "baseline_ndcg_at_5"},
}
PLOTS = {
    "flight_delay": {"roc", "precision_recall", "calibration", "importance", "contributions"},
    "arrival_delay": {"predicted_and_actual", "interval_coverage", "importance", "contributions"},
    "flight_ranking": {"ndcg_by_query_size", "grade_by_position", "importance", "contributions"},
}
OUT_OF_REACH: dict[str, tuple[dict[str, Any], str]] = {
    "flight_delay": ({"metric": "roc_auc", "minimum": 0.99}, "roc_auc is at least the minimum"),
    "arrival_delay": (
        {"metric": "mae", "maximum": 500, "coverage": {"minimum": 0.99, "maximum": 1}},
        "coverage is at least the minimum",
    ),
    "flight_ranking": (
        {"metric": "ndcg_at_k", "k": 5, "minimum": 0.1, "baseline_margin": 0.5},
        "ndcg_at_5 is better than the baseline's by the margin",
    ),
}


def predictions(platform: Platform, product: str) -> pl.DataFrame:
    return platform.lake.scan("predictions", product).collect()


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_run_in_mlflow_has_the_metrics_and_pictures_of_its_task(name: str, built_platform: Platform) -> None:
    registry = built_platform.registry
    run = registry.client.get_run(registry.require_champion(name).run_id)
    for part in ("validation", "test"):
        assert {f"{part}_{metric}" for metric in METRICS[name]} <= run.data.metrics.keys()
    found = {item.path for item in registry.client.list_artifacts(run.info.run_id, "plots")}
    assert found == {f"plots/{plot}.png" for plot in PLOTS[name]}
    assert run.data.params["objective"] == built_platform.project.products[name].objective


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_registered_version_measures_on_validation_as_it_was_recorded(name: str, built_platform: Platform) -> None:
    product, champion = built_platform.project.products[name], built_platform.registry.require_champion(name)
    frame = part_of(built_platform.lake.scan(LAYER, name).collect(), product, "validate")
    found = measure(product, frame, load_model(champion.folder, champion.digest).scores(frame))
    metric = product.gate.metric_name
    assert found[metric] == pytest.approx(champion.metrics[f"validation_{metric}"])


def test_a_model_of_delay_and_of_order_is_better_than_its_baseline(built_platform: Platform) -> None:
    delay, order = (built_platform.registry.require_champion(name).metrics for name in PRODUCTS[1:])
    assert delay["test_mae"] < delay["test_baseline_mae"]
    assert order["test_ndcg_at_5"] > order["test_baseline_ndcg_at_5"]


@pytest.mark.parametrize("name", PRODUCTS)
def test_batch_scores_are_those_of_each_row_alone_to_the_last_bit(name: str, built_platform: Platform) -> None:
    product, champion = built_platform.project.products[name], built_platform.registry.require_champion(name)
    batch = predictions(built_platform, name)
    model = load_model(champion.folder, champion.digest)
    requests = batch.select(*product.population.request, "event_timestamp")
    features = historical_features(open_store(built_platform.environment), requests, service_name(product)).to_polars()
    matrix = feature_matrix(features, model.contract)
    for step in (1, MOST_SINGLE_ROWS, MOST_SINGLE_ROWS + 1, len(matrix)):
        parts = [model.score_matrix(matrix[start : start + step], 1) for start in range(0, len(matrix), step)]
        for column in ("score", "lower", "upper"):
            values = [getattr(part, column) for part in parts]
            if column in batch.columns:
                assert np.array_equal(np.concatenate(values), batch[column].to_numpy()), (step, column)
            else:
                assert values == [None] * len(parts)


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_predictor_of_the_endpoint_gives_the_batchs_bits(name: str, built_platform: Platform) -> None:
    product = built_platform.project.products[name]
    # What has departed has features of then; the endpoint's are as of now.
    frame = predictions(built_platform, name).filter(pl.col("event_timestamp") == built_platform.clock.now())
    assert len(frame) > 100
    predictor = build_predictor(built_platform.project, built_platform.environment, product)
    predictor.use(1, built_platform.registry.require_champion(name).digest)
    rows = frame.select(*product.population.request)
    for size in (1, 7, len(rows)):
        answers = [predictor.predict(part.to_dict(as_series=False)) for part in rows.iter_slices(size)]
        scores = [score for answer in answers for score in answer.scores]
        for column in ("score", "lower", "upper"):
            if column in frame.columns:
                assert [getattr(score, column) for score in scores] == frame[column].to_list()


def test_an_interval_surrounds_its_score_in_the_batch(built_platform: Platform) -> None:
    frame = predictions(built_platform, "arrival_delay")
    assert (frame["lower"] <= frame["score"]).all()
    assert (frame["score"] <= frame["upper"]).all()
    assert (frame["lower"] < frame["upper"]).any()


def test_ranks_order_each_query_by_score(built_platform: Platform) -> None:
    frame = predictions(built_platform, "flight_ranking").sort(QUERY, "rank")
    for rows in frame.partition_by(QUERY):
        assert rows["score"].is_sorted(descending=True)
        assert rows["rank"][0] == 1
        assert rows["dest"].n_unique() == 1
    assert frame["rank"].max() > 3


def test_features_of_a_query_are_as_of_one_moment_before_its_first_departure(built_platform: Platform) -> None:
    product = built_platform.project.products["flight_ranking"]
    queries = built_platform.lake.scan(LAYER, "flight_ranking").collect().group_by(QUERY)
    found = queries.agg(pl.col("event_timestamp").unique(), pl.col("scheduled_departure").min().alias("first"))
    assert (found["event_timestamp"].list.len() == 1).all()
    assert (found["event_timestamp"].list.first() <= found["first"] - product.population.horizon).all()


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_candidate_outside_the_gate_is_never_registered_and_the_other_products_stay(
    name: str, copied: tuple[Platform, dg.DagsterInstance]
) -> None:
    platform, instance = copied
    gate, words = OUT_OF_REACH[name]
    file = platform.environment.state.parent / "configs" / "products" / f"{name}.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump(content | {"gate": gate}), encoding="utf-8")
    strict = open_small_platform(file.parent.parent)
    steps: set[str] = set()
    with pytest.raises(RunError, match="gate"):
        run_jobs(strict, instance, plan(strict, ["train"], products=[name]), lambda _, step, __: steps.add(step))
    assert steps
    assert all(f"models__{name}__" in step for step in steps)
    for other in PRODUCTS:
        assert len(platform.registry.client.search_model_versions(f"name='{other}'")) == 1
    event = instance.get_latest_materialization_event(candidate_key(name))
    assert event is not None
    with pytest.raises(GateError, match=words):
        register_candidate(
            strict.project.products[name], strict, event.asset_materialization.metadata["mlflow_run_id"].value
        )


@pytest.mark.parametrize("name", PRODUCTS)
def test_two_trainings_on_the_same_data_give_the_same_files(name: str, trained_again: Platform) -> None:
    versions = trained_again.registry.client.search_model_versions(f"name='{name}'")
    assert len(versions) == 2
    assert len({version.tags[DIGEST_TAG] for version in versions}) == 1


@pytest.mark.parametrize("file", BOUND_FILES)
def test_a_registered_interval_that_was_tampered_with_is_refused(
    file: str, built_platform: Platform, tmp_path: Path
) -> None:
    champion = built_platform.registry.require_champion("arrival_delay")
    copy = Path(shutil.copytree(champion.folder, tmp_path / "copy"))
    text = (copy / file).read_text(encoding="utf-8")
    (copy / file).write_text(text.replace("leaf_value=", "leaf_value=9", 1), encoding="utf-8")
    with pytest.raises(ModelFileError, match="changed after registration"):
        load_model(copy, champion.digest)


def test_an_unknown_product_is_named_before_anything_runs(built_platform: Platform) -> None:
    with pytest.raises(RunError, match=r"No model product is called 'nothing'\. Known: arrival_delay, flight_delay"):
        plan(built_platform, ["train"], products=["nothing"])
