"""Judge a candidate by the product's gate, beside the champion and the baseline, all on the same rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from configs.gates import Importance
from configs.products import ModelProduct
from mlway_assets.compute.behaviour import behaviour_rules, cost_rules, plausible_rules
from mlway_assets.compute.contributions import importance_of, importance_shift
from mlway_assets.compute.gate import GateRule, metric_rules
from mlway_assets.compute.improvement import Better, improvement
from mlway_assets.compute.measurement import measure_baseline, measured, metrics_of
from mlway_assets.compute.slices import fairness_rules, slice_rules
from serving.scoring import Scores, ScoringModel


@dataclass(frozen=True)
class Incumbent:
    """The champion's scores of the judged rows.

    `importance` is that of its features on a sample of them, where the gate asks.
    """

    metrics: Mapping[str, float]
    scores: Scores
    importance: Mapping[str, float] | None = None


def judged_by(
    product: ModelProduct, rows: pl.DataFrame, candidate: ScoringModel, champion: Incumbent | None
) -> list[GateRule]:
    """Every rule of the gate with what was seen. `rows` are those of the judged part, with features and labels.

    Raises OneClassError, NothingToRankError, RelevanceError, MissingFeaturesError.
    """
    gate, scores = product.gate, candidate.scores(rows)
    found = metrics_of(product, measured(product, rows, scores))
    beside = None if champion is None else champion.scores
    better = None if beside is None else _better(product, rows, scores, beside)
    rules = metric_rules(
        gate, found, None if champion is None else champion.metrics, measure_baseline(product, rows), better
    )
    if gate.slices is not None and beside is not None:
        rules += slice_rules(product, gate.slices, rows, scores, beside)
    if gate.calibration is not None:
        error = "calibration_error"
        allowed = gate.calibration.maximum_error if champion is None else champion.metrics.get(error, 0.0)
        limit = max(gate.calibration.maximum_error, allowed)
        rules.append(GateRule("calibration", "Expected calibration error", found[error], "at most", limit))
    if gate.fairness is not None:
        rules += fairness_rules(product, gate.fairness, rows, scores, beside)
    if gate.importance is not None and champion is not None and champion.importance is not None:
        rules.append(_importance_rule(gate.importance, importance_of(product, rows, candidate), champion.importance))
    if gate.behaviour is not None:
        rules += behaviour_rules(gate.behaviour, candidate, rows, product.training.seed)
    texts = [part.model_to_string() for part in (candidate.booster, *(candidate.bounds or ()))]
    rules += cost_rules(gate.cost, candidate, texts, rows)
    return rules + plausible_rules(gate.plausible, candidate, _gained(product, found, champion))


def incumbent(product: ModelProduct, rows: pl.DataFrame, model: ScoringModel) -> Incumbent:
    """A champion that can score the rows."""
    scores = model.scores(rows)
    importance = None if product.gate.importance is None else importance_of(product, rows, model)
    return Incumbent(metrics_of(product, measured(product, rows, scores)), scores, importance)


def _importance_rule(limits: Importance, ours: Mapping[str, float], theirs: Mapping[str, float]) -> GateRule:
    seen = importance_shift(ours, theirs).moved_share
    return GateRule(
        "importance", "Share of the importance that moved from the champion's", seen, "at most", limits.maximum_shift
    )


def _better(product: ModelProduct, rows: pl.DataFrame, candidate: Scores, champion: Scores) -> Better | None:
    asked = product.gate.improvement
    if asked is None:
        return None
    return improvement(
        asked.metric or product.gate.metric,
        rows[product.population.event_time].dt.date(),
        measured(product, rows, candidate),
        measured(product, rows, champion),
        confidence=asked.confidence,
        samples=asked.samples,
        seed=product.training.seed,
        k=product.gate.k,
    )


def _gained(product: ModelProduct, found: Mapping[str, float], champion: Incumbent | None) -> float | None:
    """By how much the gate's metric is better than the champion's."""
    metric = product.gate.metric_name
    if champion is None or metric not in champion.metrics:
        return None
    gained = found[metric] - champion.metrics[metric]
    return -gained if product.gate.is_lower_better else gained
