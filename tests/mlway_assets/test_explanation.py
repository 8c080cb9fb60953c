"""What a model's scores are made of: contributions that sum to the scores, and how far they moved from the champion."""

import io
import json

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

from mlway_assets.compute.contribution_plot import contribution_plot
from mlway_assets.compute.contributions import contributions_of, importance_shift, sampled
from mlway_assets.compute.population import part_of
from mlway_assets.explanation import SUMMARY_FILE, TABLE_FILE, read_summary
from mlway_assets.resources import Platform
from mlway_assets.run_files import read_file
from mlway_assets.training_sets import LAYER
from serving.scoring import ScoringModel, load_model

PRODUCT = "flight_delay"


def judged(platform: Platform, name: str) -> pl.DataFrame:
    return part_of(platform.lake.scan(LAYER, name).collect(), platform.project.products[name], "validate")


def champion(platform: Platform, name: str) -> ScoringModel:
    found = platform.registry.require_champion(name)
    return load_model(found.folder, found.digest)


@pytest.mark.parametrize("name", ["flight_delay", "arrival_delay", "flight_ranking"])
def test_contributions_and_bias_sum_to_the_raw_score_of_every_row(name: str, built_platform: Platform) -> None:
    model, rows = champion(built_platform, name), sampled(judged(built_platform, name), seed=1, most=200)
    found = contributions_of(model, rows)
    assert found.added.shape == (200, len(model.contract.features))
    score = model.score(rows)
    raw = np.log(score / (1 - score)) if name == "flight_delay" else score
    assert found.added.sum(axis=1) + found.bias == pytest.approx(raw, abs=1e-9)


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order() -> None:
    rows = pl.DataFrame({"row": range(5_000)})
    one, same, other = (sampled(rows, seed) for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)
    assert one["row"].is_sorted()
    assert (len(one), one["row"].n_unique()) == (1_000, 1_000)
    assert sampled(rows.head(10), 1).equals(rows.head(10))


@pytest.mark.parametrize(
    ("second", "correlation", "moved"),
    [
        ({"a": 30.0, "b": 20.0, "c": 10.0}, 1.0, 0.0),
        ({"a": 1.0, "b": 2.0, "c": 3.0}, -1.0, 1 / 3),
        ({"d": 1.0}, None, 1.0),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, None, 1 / 6),
    ],
)
def test_a_shift_tells_order_and_amount_apart(
    second: dict[str, float], correlation: float | None, moved: float
) -> None:
    found = importance_shift({"a": 3.0, "b": 2.0, "c": 1.0}, second)
    assert found.moved_share == pytest.approx(moved)
    if "d" not in second:
        assert found.rank_correlation == (None if correlation is None else pytest.approx(correlation))


def test_the_run_keeps_the_summary_the_table_and_the_picture(built_platform: Platform) -> None:
    registry = built_platform.registry
    found = registry.require_champion(PRODUCT)
    summary = read_summary(registry, found.run_id)
    assert summary is not None
    model = champion(built_platform, PRODUCT)
    product = built_platform.project.products[PRODUCT]
    again = contributions_of(model, sampled(judged(built_platform, PRODUCT), product.training.seed))
    assert {each.feature: each.mean_absolute for each in summary.features} == again.importance
    assert sum(each.share for each in summary.features) == pytest.approx(1)
    assert [each.mean_absolute for each in summary.features] == sorted(again.importance.values(), reverse=True)
    assert (summary.champion, summary.metrics) == (None, {}), "there was no champion yet"
    table = pl.read_csv(io.BytesIO(read_file(registry, found.run_id, TABLE_FILE) or b""))
    assert table["feature"].to_list() == list(again.importance)
    assert imread(io.BytesIO(read_file(registry, found.run_id, "plots/contributions.png") or b"")).shape[2] == 4
    assert json.loads(read_file(registry, found.run_id, SUMMARY_FILE) or b"")["rows"] == 1_000
    assert read_file(registry, found.run_id, "explanation/none.json") is None


def test_the_same_model_trained_again_has_moved_nothing_from_the_champion(trained_again: Platform) -> None:
    version = trained_again.registry.client.get_model_version(PRODUCT, "2")
    summary = read_summary(trained_again.registry, version.run_id)
    assert summary is not None
    assert (summary.champion, summary.rank_correlation, summary.moved_share) == (1, pytest.approx(1), pytest.approx(0))
    metrics = trained_again.registry.client.get_run(version.run_id).data.metrics
    assert summary.metrics.items() <= metrics.items()
    assert all(each.champion_share == pytest.approx(each.share) for each in summary.features)


def test_the_picture_shows_the_most_important_features_from_the_top(built_platform: Platform) -> None:
    found = contributions_of(champion(built_platform, PRODUCT), sampled(judged(built_platform, PRODUCT), 1, most=50))
    axes = contribution_plot(found).axes[0]
    shown = [label.get_text().split()[0] for label in axes.get_yticklabels()]
    assert shown == list(found.importance)[:20]
    dots = sum(len(drawn.get_offsets()) for drawn in axes.collections)
    assert dots == 50 * len(shown)
