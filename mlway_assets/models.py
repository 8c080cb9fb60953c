"""A candidate's way to the registry: trained from a training set, judged by the gate, registered, promoted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from configs.clock import build_clock
from configs.environments import SystemClock
from configs.errors import MlwayError
from configs.products import ModelProduct
from feature_repo.services import service_name
from mlway_assets.approvals import approve
from mlway_assets.compute.card import Approval
from mlway_assets.compute.gate import GateRule, has_shown_improvement
from mlway_assets.compute.judgement import Incumbent, incumbent, judged_by
from mlway_assets.compute.plots import candidate_plots
from mlway_assets.compute.population import in_order, part_of
from mlway_assets.compute.search import Study
from mlway_assets.compute.search_plots import HISTORY, history_plot
from mlway_assets.compute.training import Candidate, train
from mlway_assets.explanation import Explanation, explain_candidate
from mlway_assets.model_card import publish_card, record_card
from mlway_assets.registry import TRAINING_REASON_TAG, TRAINING_SET_TAG, ModelVersion, git_commit
from mlway_assets.resources import Platform
from mlway_assets.training_sets import LAYER, newest_training_set, recorded_split
from mlway_assets.trial_runs import log_algorithms, log_trials, study_tags
from mlway_assets.trials import search_parameters
from serving.scoring import feature_matrix, load_model

EXAMPLE_ROWS = 5


class GateError(MlwayError):
    """A candidate did not pass the gate."""

    def __init__(self, run_id: str, broken: list[GateRule]) -> None:
        reasons = "; ".join(f"{rule.name}: {rule.seen:.4f}, not {rule.bound} {rule.limit:.4f}" for rule in broken)
        super().__init__(
            f"The candidate of run {run_id} is not registered: {reasons}.\n"
            "Hint: train a better one, or change `gate` in the product's file."
        )


@dataclass(frozen=True)
class LoggedCandidate:
    """A candidate, the MLflow run that holds it, what its scores are made of, and the search for its parameters."""

    candidate: Candidate
    run_id: str
    explanation: Explanation
    study: Study | None = None


def train_candidate(product: ModelProduct, platform: Platform, reason: str) -> LoggedCandidate:
    """Train on the newest training set, log the candidate with its hash and the versions of all data read, explain it.

    `reason` is why it is trained, for whoever looks at the version later.

    Where the product declares a search, its best parameters are trained with, and its trials are nested runs. Raises
    TrainingSetError, SearchError.
    """
    training_set = newest_training_set(product.name, platform)
    version, record = training_set.version, training_set.record
    product = product.with_split(recorded_split(training_set))
    frame = in_order(platform.lake.scan(LAYER, product.name, version).collect(), product)
    features = platform.project.model_features(product)
    study = None
    if product.training.search is not None:
        study = search_parameters(product, features, product.training.search, frame, platform.environment.trials)
        product = product.with_parameters(study.best.parameters)
    candidate = train(product, features, frame)
    tags = {
        "mlway.data_versions": json.dumps(record.inputs | {f"{LAYER}/{product.name}": version}, sort_keys=True),
        TRAINING_SET_TAG: str(version),
        "mlway.training_set_sha256": record.sha256,
        "mlway.feature_service": service_name(product),
        "mlway.feature_definitions": record.feature_definitions,
        "mlway.git_commit": git_commit(),
        TRAINING_REASON_TAG: reason,
    }
    parameters = {
        **product.training.algorithms.parameters(candidate.algorithm),
        "algorithm": candidate.algorithm,
        "objective": product.objective,
        "seed": product.training.seed,
    }
    example = feature_matrix(frame.head(EXAMPLE_ROWS), candidate.contract)
    figures = candidate_plots(candidate)
    if study is not None:
        tags |= study_tags(study)
        figures[HISTORY] = history_plot(study)
    run_id = platform.registry.log_candidate(candidate, parameters, tags, figures, example)
    if study is not None:
        log_trials(platform.registry.client, run_id, study)
    if len(candidate.considered) > 1:
        log_algorithms(platform.registry.client, run_id, candidate.considered)
    judged = part_of(frame, product, product.training.split.judged)
    return LoggedCandidate(candidate, run_id, explain_candidate(product, platform.registry, run_id, judged), study)


def judge(product: ModelProduct, platform: Platform, run_id: str) -> list[GateRule]:
    """The gate's rules for the candidate of `run_id`.

    It, the champion and the baseline are measured on the same rows: those of the newest training set that its split
    says. A champion that needs features which these lack is not measured, and no rule is about it. Raises
    TrainingSetError, OneClassError, NothingToRankError, RelevanceError, MissingFeaturesError.
    """
    newest = newest_training_set(product.name, platform)
    product = product.with_split(recorded_split(newest))
    rows = part_of(
        platform.lake.scan(LAYER, product.name, newest.version).collect(), product, product.training.split.judged
    )
    champion = platform.registry.champion(product.name)
    beside = None if champion is None else _incumbent(product, champion, rows)
    return judged_by(product, rows, load_model(platform.registry.run_folder(run_id)), beside)


def _incumbent(product: ModelProduct, champion: ModelVersion, rows: pl.DataFrame) -> Incumbent | None:
    """The champion on the candidate's rows; None where these lack a feature that it needs.

    What is recorded of it was reached on the rows of another season, by which nobody is better or worse.
    """
    model = load_model(champion.folder, champion.digest)
    if not set(model.contract.features) <= set(rows.columns):
        return None
    return incumbent(product, rows, model)


def register_candidate(product: ModelProduct, platform: Platform, run_id: str) -> ModelVersion:
    """Register the candidate as challenger, with its card; in an environment that says so, it becomes champion.

    Judges again: the check that blocks a bad candidate only does so within its own run. Raises GateError.
    """
    rules = judge(product, platform, run_id)
    if broken := [rule for rule in rules if not rule.is_met]:
        raise GateError(run_id, broken)
    version = platform.registry.register(product.name, run_id)
    record_card(product, platform, version, rules)
    if promotion := _own_promotion(version, platform, rules):
        # Approvals are by the machine's clock, as people give them, whatever time the platform replays.
        now = build_clock(SystemClock(kind="system")).now()
        approve(platform.registry, version, Approval(at=now, by="mlway", note=f"The environment says: {promotion}."))
    publish_card(platform.registry, version)
    return version


def _own_promotion(version: ModelVersion, platform: Platform, rules: Sequence[GateRule]) -> str | None:
    """The rule by which nobody needs to approve a version that has passed the gate; None where somebody does.

    A candidate that could not be held beside the champion has shown nothing: somebody decides.
    """
    champion, promotion = platform.registry.champion(version.product), platform.environment.promotion
    if champion is None:
        return "promotion.first_version is automatic" if promotion.first_version == "automatic" else None
    has_shown_more = has_shown_improvement(rules) and champion.version != version.version
    is_automatic = promotion.later_versions == "automatic" and has_shown_more
    return "promotion.later_versions is automatic" if is_automatic else None
