"""`mlway explain-decision`: the score again from the log and from the lake, and what stands in the way of either."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decision_support import PRODUCT, REQUEST, baseline, flip_byte, product
from tests_support import open_small_platform, write_small_configs
from typer.testing import CliRunner

from configs.load import Project
from feature_repo.request_features import with_request_features
from mlway_assets.cli import app
from mlway_assets.decision_compaction import compact_decisions
from mlway_assets.decision_explanation import DecisionModelError, Explanation, explain_decision
from mlway_assets.decision_lookup import UnknownDecisionError
from mlway_assets.resources import Platform
from serving.decision_log import Decision, new_decision_id, open_decision_log
from serving.decision_segments import ChainError, list_segments
from serving.online_features import build_online_features, join_key_columns, with_features
from serving.scoring import feature_matrix, load_model

ROWS = 3
runner = CliRunner()


@pytest.fixture
def logging(built_platform: Platform, tmp_path: Path) -> Platform:
    """The built platform with a decision log and a lake of its own, and its models."""
    return with_decisions(built_platform, tmp_path)


def with_decisions(built: Platform, folder: Path, **declared: Any) -> Platform:
    decisions = built.environment.decisions.model_copy(update={"folder": str(folder / "decisions"), **declared})
    return Platform(built.project, built.environment.model_copy(update={"decisions": decisions}))


@pytest.fixture
def clean_lake(built_platform: Platform) -> Iterator[None]:
    yield
    shutil.rmtree(built_platform.environment.state / "lake" / "raw" / f"decisions_{PRODUCT}", ignore_errors=True)


def answer(platform: Platform) -> Decision:
    """What an endpoint with the champion answers to some requests, before anything is hidden."""
    declared = platform.project.products[PRODUCT]
    groups = platform.project.table_groups(declared)
    frame = platform.lake.scan("predictions", PRODUCT).collect().sort("scheduled_departure", "flight")
    rows = frame.tail(ROWS).select(*declared.population.request)
    now = platform.clock.now()
    read = build_online_features(platform.environment, groups).read(join_key_columns(rows, groups), now)
    features = with_request_features(platform.project.request_groups(declared), with_features(rows, groups, read))
    champion = platform.registry.require_champion(PRODUCT)
    model = load_model(champion.folder, champion.digest)
    return Decision(
        id=new_decision_id(),
        at=int(now.timestamp()) * 1_000_000,
        answered_at=time.time_ns() // 1000,
        product=PRODUCT,
        model={"name": PRODUCT, "version": champion.version},
        digest=champion.digest,
        variant="champion",
        caller="key-1",
        requests=rows.to_dicts(),
        features=tuple(model.contract.features),
        vectors=feature_matrix(features, model.contract),
        ages=read.ages,
        missing=read.missing,
        scores=model.score(features, threads=1).tolist(),
        degraded=[],
        latency_microseconds=900,
        cache_hits=0,
    )


def record(platform: Platform, decision: Decision) -> str:
    log = open_decision_log(platform.project, platform.environment, platform.project.products[PRODUCT], "r1")
    log.append(decision)
    log.close()
    return decision.id


def scores(explanation: Explanation) -> list[tuple[bool | None, bool | None]]:
    return [(row.is_equal, row.is_equal_in_lake) for row in explanation.rows]


def test_a_decision_comes_out_the_same_from_the_log_and_from_the_lake(logging: Platform) -> None:
    made = answer(logging)
    explained = explain_decision(record(logging, made), logging)
    assert scores(explained) == [(True, True)] * ROWS
    assert (explained.log_problem, explained.lake_problem) == (None, None)
    assert explained.found.place == "segment r1-000001, line 3"
    for place, row in enumerate(explained.rows):
        assert [feature.agrees for feature in row.features] == [True] * len(made.features)
        assert row.logged == made.scores[place]
        assert row.contribution_sum is not None
        assert 1 / (1 + np.exp(-row.contribution_sum)) == pytest.approx(row.logged, abs=1e-9)


def test_a_decision_is_explained_the_same_from_the_lake_once_its_segment_is_gone(
    logging: Platform, clean_lake: None
) -> None:
    identity = record(logging, answer(logging))
    live = explain_decision(f"{identity}.1", logging)
    compact_decisions(product(), logging, datetime.now(UTC))
    shutil.rmtree(logging.environment.decisions_folder / PRODUCT)
    kept = explain_decision(f"{identity}.1", logging)
    assert kept.found.place.startswith(f"lake, raw/decisions_{PRODUCT} version ")
    assert scores(kept) == [(True, True)]
    assert repr(kept.rows[0].features) == repr(live.rows[0].features)
    assert kept.rows[0].request == live.rows[0].request


def test_a_logged_value_that_the_lake_has_otherwise_is_shown_and_named(logging: Platform) -> None:
    made = answer(logging)
    vectors = np.array(made.vectors)
    place = made.features.index("route_distance_miles")
    vectors[0, place] += 500
    explained = explain_decision(record(logging, replace(made, vectors=vectors)), logging)
    differing = [feature.name for feature in explained.rows[0].features if feature.agrees is False]
    assert differing == ["route_distance_miles"]
    assert explained.rows[0].is_equal_in_lake is True  # the features of the lake give the score that was answered


def test_a_score_that_the_model_does_not_give_is_another_score(logging: Platform) -> None:
    made = answer(logging)
    wrong = replace(made, scores=[float(np.nextafter(made.scores[0], 1)), *made.scores[1:]])
    explained = explain_decision(record(logging, wrong), logging)
    assert scores(explained) == [(False, False), (True, True), (True, True)]
    assert not explained.is_equal


def test_a_text_never_seen_in_training_is_missing_here_as_there(logging: Platform) -> None:
    made = answer(logging)
    place = made.features.index("dest_code")
    vectors = np.array(made.vectors)
    vectors[:, place] = np.nan
    champion = logging.registry.require_champion(PRODUCT)
    given = load_model(champion.folder).booster.predict(vectors, num_threads=1).tolist()
    explained = explain_decision(record(logging, replace(made, vectors=vectors, scores=given)), logging)
    assert [row.is_equal for row in explained.rows] == [True] * ROWS


def test_the_baselines_answer_is_held_against_what_is_declared(logging: Platform) -> None:
    declared = logging.project.products[PRODUCT].baseline.score
    explained = explain_decision(record(logging, baseline(requests=[REQUEST], scores=[declared])), logging)
    assert (explained.rows[0].is_equal, explained.rows[0].features) == (True, [])
    assert "The baseline answered" in str(explained.log_problem)


def hide(platform: Platform, group: str, feature: str | None) -> Platform:
    """The platform with a group, or one feature of it, tagged as personal."""
    found = platform.project.features[group]
    if feature is None:
        changed = found.model_copy(update={"tags": ("pii",)})
    else:
        tagged = found.features[feature].model_copy(update={"tags": ("pii",)})  # type: ignore[union-attr]
        changed = found.model_copy(update={"features": {**found.features, feature: tagged}})  # type: ignore[union-attr]
    project = platform.project
    features = {**project.features, group: changed}
    return Platform(Project(project.sources, features, project.products), platform.environment)


def test_a_hidden_feature_is_not_in_the_log_which_says_that_it_cannot_recompute(logging: Platform) -> None:
    hidden = hide(logging, "departure_request", "aircraft_is_in_the_air")
    product_features = hidden.project.model_features(hidden.project.products[PRODUCT])
    assert "aircraft_is_in_the_air" in product_features
    explained = explain_decision(record(hidden, answer(hidden)), hidden)
    assert explained.log_problem == (
        "The log hides aircraft_is_in_the_air, which the model used: the score cannot be recomputed from the log."
    )
    assert scores(explained) == [(None, True)] * ROWS
    by_name = {feature.name: feature for feature in explained.rows[0].features}
    assert (by_name["aircraft_is_in_the_air"].logged, by_name["aircraft_is_in_the_air"].agrees) == (None, None)
    assert by_name["dest_code"].agrees is True


def test_hidden_keys_of_the_request_cannot_be_looked_up_in_the_lake(
    logging: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_lake: None
) -> None:
    monkeypatch.setenv("DECISIONS_KEY", "a secret")
    hashing = with_decisions(logging, tmp_path, pii="hash", pii_secret="DECISIONS_KEY")
    hidden = hide(hashing, "aircraft", None)
    made = answer(hidden)
    identity = record(hidden, made)
    text = list_segments(hidden.environment.decisions_folder, PRODUCT)[0].path.read_text(encoding="utf-8")
    assert made.requests[0]["tailnum"] not in text
    explained = explain_decision(identity, hidden)
    assert "hides aircraft_seats" in str(explained.log_problem)
    assert "hides tailnum" in str(explained.lake_problem)
    assert scores(explained) == [(None, None)] * ROWS
    hashes = explained.found.record.hashes
    assert set(hashes[0]["fields"]) == {"tailnum"}
    assert len(hashes[0]["features"]["aircraft_seats"]) == 64
    compact_decisions(hidden.project.products[PRODUCT], hidden, datetime.now(UTC))
    shutil.rmtree(hidden.environment.decisions_folder / PRODUCT)
    kept = explain_decision(identity, hidden)
    assert (kept.log_problem, kept.lake_problem) == (explained.log_problem, explained.lake_problem)
    assert kept.found.record.hashes == hashes


@pytest.mark.parametrize("identity", ["0" * 32, "no id", "../x", "0.99999999"])
def test_an_unknown_id_is_refused(identity: str, logging: Platform) -> None:
    with pytest.raises(UnknownDecisionError, match="Hint"):
        explain_decision(identity, logging)


def test_a_row_that_is_not_there_is_refused_with_those_that_are(logging: Platform) -> None:
    identity = record(logging, answer(logging))
    with pytest.raises(UnknownDecisionError, match=rf"3 rows: {identity}\.0 to {identity}\.2"):
        explain_decision(f"{identity}.3", logging)


def test_an_altered_record_is_not_explained(logging: Platform) -> None:
    identity = record(logging, answer(logging))
    flip_byte(list_segments(logging.environment.decisions_folder, PRODUCT)[0].path, line=3, place=-60)
    with pytest.raises(ChainError, match=identity):
        explain_decision(identity, logging)


def test_missing_and_changed_model_files_are_named(logging: Platform, tmp_path: Path) -> None:
    identity = record(logging, answer(logging))
    empty = Platform(logging.project, logging.environment.model_copy(update={"model_store": str(tmp_path / "none")}))
    with pytest.raises(DecisionModelError, match=r"version 1 of flight_delay(.|\n)*cannot be read"):
        explain_decision(identity, empty)
    shutil.copytree(logging.environment.model_store, tmp_path / "none")
    (tmp_path / "none" / PRODUCT / "1" / "model.txt").write_text("other")
    with pytest.raises(DecisionModelError, match="the registry says"):
        explain_decision(identity, empty)


def test_the_command_shows_what_agrees(built_platform: Platform, tmp_path: Path) -> None:
    configs = write_small_configs(tmp_path / "configs", built_platform.environment.state)
    file = configs / "environments" / "local.yaml"
    text = file.read_text(encoding="utf-8").replace("'{state}/decisions'", str(tmp_path / "decisions"))
    file.write_text(text.replace("{state}/decisions", str(tmp_path / "decisions")), encoding="utf-8")
    platform = open_small_platform(configs)
    made = answer(platform)
    identity = record(platform, made)
    variables = {"MLWAY_CONFIGS": str(configs), "COLUMNS": "200"}
    shown = runner.invoke(app, ["explain-decision", f"{identity}.0"], env=variables)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("equal, bit for bit") == 2
    assert "turnaround_slack_minutes" in shown.stdout
    summary = runner.invoke(app, ["explain-decision", identity], env=variables)
    assert summary.stdout.count("same") == 2 * ROWS
    told = json.loads(runner.invoke(app, ["explain-decision", identity, "--json"], env=variables).stdout)
    assert told["is_equal"] is True
    assert [row["from_log"] for row in told["rows"]] == made.scores
    refused = runner.invoke(app, ["explain-decision", "f" * 32], env=variables)
    assert refused.exit_code == 1
    assert "No decision has the id" in refused.stderr
