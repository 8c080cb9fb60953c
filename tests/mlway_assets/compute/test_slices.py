"""Groups that are served unlike each other: how far the worst lies behind, and how unlike positives are found."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from configs.gates import Fairness
from configs.load import load_project
from mlway_assets.compute.slices import fairness_rules
from serving.scoring import Scores

PRODUCT = load_project().products["flight_delay"]
CARRIERS = ("AA", "B6", "UA")
LIMITS = Fairness(
    by=("carrier",), minimum_rows=100, maximum_gap=0.05, threshold=0.5, maximum_opportunity_difference=0.2
)


def scored(noise: dict[str, float], shift: dict[str, float]) -> tuple[pl.DataFrame, Scores]:
    """A thousand rows of each carrier: scores that know the label as well as the noise lets them, and are shifted."""
    dice = np.random.default_rng(11)
    parts = []
    for carrier in CARRIERS:
        late = dice.random(1_000) < 0.4
        score = np.clip(late * 0.4 + 0.3 + shift.get(carrier, 0) + dice.normal(0, noise.get(carrier, 0.2), 1_000), 0, 1)
        parts.append(pl.DataFrame({"carrier": carrier, "label": late, "score": score}))
    frame = pl.concat(parts)
    return frame.drop("score"), Scores(frame["score"].to_numpy(), None, None)


def test_groups_that_are_served_alike_meet_both_rules() -> None:
    gap, opportunity = fairness_rules(PRODUCT, LIMITS, *scored({}, {}), None)
    assert gap.is_met
    assert opportunity.is_met


def test_the_group_whose_order_is_worse_than_the_mean_is_named() -> None:
    rows, scores = scored({"B6": 0.8}, {})
    gap, _ = fairness_rules(PRODUCT, LIMITS, rows, scores, None)
    areas = {
        carrier: roc_auc_score(rows["label"].filter(where), scores.score[where.to_numpy()])
        for carrier in CARRIERS
        if len(where := rows["carrier"] == carrier)
    }
    assert not gap.is_met
    assert gap.seen == pytest.approx(np.mean(list(areas.values())) - areas["B6"])
    assert gap.name.endswith(": B6")


def test_positives_of_a_group_that_are_seldom_found_break_equal_opportunity_alone() -> None:
    """Shifted scores keep their order, so that the metric is the same: the threshold is not."""
    rows, scores = scored({}, {"UA": -0.2})
    gap, opportunity = fairness_rules(PRODUCT, LIMITS, rows, scores, None)
    found = {
        carrier: (scores.score[((rows["carrier"] == carrier) & rows["label"]).to_numpy()] >= 0.5).mean()
        for carrier in CARRIERS
    }
    assert gap.is_met
    assert not opportunity.is_met
    assert opportunity.seen == pytest.approx(max(found.values()) - found["UA"])
    assert "UA and " in opportunity.name


def test_a_champion_that_is_past_a_limit_sets_it() -> None:
    rows, champion = scored({"B6": 0.8}, {"UA": -0.2})
    _, better = scored({"B6": 0.7}, {"UA": -0.15})
    assert not any(rule.is_met for rule in fairness_rules(PRODUCT, LIMITS, rows, champion, None))
    assert all(rule.is_met for rule in fairness_rules(PRODUCT, LIMITS, rows, better, champion))
    assert not any(rule.is_met for rule in fairness_rules(PRODUCT, LIMITS, rows, champion, better))


def test_of_one_group_with_enough_rows_nothing_is_said() -> None:
    rows, scores = scored({}, {})
    alone = LIMITS.model_copy(update={"minimum_rows": 1_001})
    assert fairness_rules(PRODUCT, alone, rows, scores, None) == []
