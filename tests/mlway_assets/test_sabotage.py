"""Challengers that were tampered with, each refused by the rule that should refuse it, and by no other."""

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest

from configs.gates import Behaviour, Importance, PromotionGate
from configs.products import ModelProduct
from configs.splits import Split
from mlway_assets.compute.behaviour import behaviour_rules
from mlway_assets.compute.gate import GateRule
from mlway_assets.compute.judgement import Incumbent, incumbent, judged_by
from mlway_assets.compute.population import LABEL, in_order, part_of
from mlway_assets.compute.training import train
from mlway_assets.resources import Platform
from mlway_assets.training_sets import LAYER
from serving.scoring import ScoringModel

GATE = PromotionGate.model_validate(
    {
        "metric": "roc_auc",
        "minimum": 0.6,
        "improvement": {"metric": "roc_auc", "margin": -0.03, "confidence": 0.95},
        "slices": {"by": ["carrier", "origin"], "minimum_rows": 300, "maximum_worsening": 0.05},
        "calibration": {"maximum_error": 0.06},
        "fairness": {"by": ["carrier", "origin"], "minimum_rows": 300, "maximum_gap": 0.15},
        "plausible": {"maximum_improvement": 0.1, "maximum_importance": 0.5},
    }
)
Rows = pl.DataFrame
Tamper = Callable[[Rows], Rows]


@pytest.fixture(scope="module")
def product(built_platform: Platform) -> ModelProduct:
    """Of six weeks the newest two are judged, so that slices have rows."""
    found = built_platform.project.products["flight_delay"]
    split = Split.model_validate(
        {
            "train_until": "2013-01-23T00:00:00Z",
            "validate_until": "2013-01-27T00:00:00Z",
            "test_until": "2013-02-09T00:00:00Z",
            "judged": "test",
        }
    )
    return found.with_split(split).model_copy(update={"gate": GATE})


@pytest.fixture(scope="module")
def rows(product: ModelProduct, built_platform: Platform) -> Rows:
    return in_order(built_platform.lake.scan(LAYER, product.name).collect(), product)


@pytest.fixture(scope="module")
def champion(product: ModelProduct, rows: Rows, built_platform: Platform) -> Incumbent:
    return incumbent(product, part_of(rows, product, "test"), model_of(product, rows, built_platform))


def model_of(product: ModelProduct, rows: Rows, platform: Platform) -> ScoringModel:
    candidate = train(product, platform.project.model_features(product), rows)
    return ScoringModel(lightgbm.Booster(model_str=candidate.model_text), candidate.contract, digest="")


def learned_from(rows: Rows, product: ModelProduct, tamper: Tamper) -> Rows:
    """All rows, those that training sees (its part and early stopping's) tampered with."""
    is_seen = pl.col(product.population.event_time) < product.training.split.validate_until
    return pl.concat([tamper(rows.filter(is_seen)), rows.filter(~is_seen)])


def broken(rules: list[GateRule]) -> set[str]:
    return {rule.subject for rule in rules if not rule.is_met}


@pytest.fixture
def judge(product: ModelProduct, rows: Rows, champion: Incumbent, built_platform: Platform) -> Callable[..., Any]:
    def judge(tampered: Rows, judged: Rows | None = None) -> list[GateRule]:
        model = model_of(product, tampered, built_platform)
        return judged_by(product, part_of(rows if judged is None else judged, product, "test"), model, champion)

    return judge


def test_an_honest_challenger_passes(judge: Callable[..., Any], rows: Rows, product: ModelProduct) -> None:
    found = judge(learned_from(rows, product, lambda part: part.sample(fraction=0.95, seed=1)))
    assert broken(found) == set()
    assert {rule.subject for rule in found} == {
        *("limit", "champion", "slices", "calibration", "fairness", "cost", "plausible")
    }


def test_shuffled_labels_are_refused_by_the_metric(
    judge: Callable[..., Any], rows: Rows, product: ModelProduct
) -> None:
    found = judge(learned_from(rows, product, lambda part: part.with_columns(pl.col(LABEL).shuffle(seed=1))))
    assert {"limit", "champion"} <= broken(found)


def test_a_leaking_feature_is_too_good_to_be_true(judge: Callable[..., Any], rows: Rows, product: ModelProduct) -> None:
    noise = pl.Series(np.random.default_rng(1).normal(0, 0.1, len(rows)))
    leaking = rows.with_columns((pl.col(LABEL).cast(pl.Float64) + noise).alias("route_late_share_28d"))
    found = broken(judge(leaking, leaking))
    assert "plausible" in found
    assert found <= {"plausible", "calibration"}  # so few rounds leave it less sure than it could be


def test_one_ruined_slice_is_refused_by_the_slices(
    judge: Callable[..., Any], rows: Rows, product: ModelProduct, champion: Incumbent
) -> None:
    is_ruined = pl.col("carrier") == "MQ"
    ruined = learned_from(
        rows,
        product,
        lambda part: part.with_columns(pl.when(is_ruined).then(~pl.col(LABEL)).otherwise(LABEL).alias(LABEL)),
    )
    found = judge(ruined)
    assert "slices" in broken(found)
    assert "limit" not in broken(found)
    assert any("carrier = MQ" in rule.name for rule in found if rule.subject == "slices" and not rule.is_met)


def test_probabilities_off_by_a_factor_are_refused_by_calibration(
    judge: Callable[..., Any], rows: Rows, product: ModelProduct
) -> None:
    def thinned(part: Rows) -> Rows:
        return pl.concat([part.filter(pl.col(LABEL)), part.filter(~pl.col(LABEL)).sample(fraction=0.4, seed=1)])

    found = judge(learned_from(rows, product, thinned))
    assert broken(found) == {"calibration"}


def test_a_challenger_that_looks_elsewhere_is_refused_by_importance(
    rows: Rows, product: ModelProduct, built_platform: Platform
) -> None:
    asking = product.model_copy(update={"gate": GATE.model_copy(update={"importance": Importance(maximum_shift=0.3)})})
    champion = model_of(product, rows, built_platform)
    beside = incumbent(asking, part_of(rows, asking, "test"), champion)
    assert beside.importance is not None

    def shift(tampered: Rows) -> GateRule:
        judged = judged_by(asking, part_of(rows, asking, "test"), model_of(product, tampered, built_platform), beside)
        return next(rule for rule in judged if rule.subject == "importance")

    most = sorted(beside.importance, key=lambda name: -beside.importance[name])[:10]
    honest = shift(learned_from(rows, product, lambda part: part.sample(fraction=0.95, seed=1)))
    blind = shift(learned_from(rows, product, lambda part: part.with_columns(pl.col(most).shuffle(seed=1))))
    assert (honest.is_met, blind.is_met) == (True, False), (honest.seen, blind.seen)


def test_a_score_that_goes_the_wrong_way_is_refused_by_behaviour(
    rows: Rows, product: ModelProduct, built_platform: Platform
) -> None:
    model, judged = model_of(product, rows, built_platform), part_of(rows, product, "test")
    gains = dict(zip(model.contract.features, model.booster.feature_importance("gain"), strict=True))
    most, unused = max(gains, key=lambda name: gains[name]), min(gains, key=lambda name: gains[name])
    assert gains[unused] == 0
    asked = Behaviour.model_validate(
        {
            "increasing": [most],
            "decreasing": [most],
            "invariant": [most, unused],
            "tolerance": 0.02,
            "cases": [
                {"name": "late origin", "when": "origin_departure_delay_mean_1h > 40", "minimum": 0.3, "maximum": 1},
                {"name": "too late", "when": "origin_departure_delay_mean_1h > 40", "maximum": 0.1},
                {"name": "never", "when": "origin_departure_delay_mean_1h > 1e9", "minimum": 0},
            ],
        }
    )
    found = behaviour_rules(asked, model, judged, seed=1)
    moved = [(rule.name.split(" ", 1)[1], rule.is_met) for rule in found[:4]]
    assert moved.count(("does not change a score", True)) == 1
    assert sum(is_met for _, is_met in moved) == 2, "the most important feature has a direction, and is not ignored"
    assert [rule.is_met for rule in found[4:]] == [True, True, False, False]
