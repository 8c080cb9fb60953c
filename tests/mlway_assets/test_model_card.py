"""The model card of a registered version: its figures, its page, and who approved the version."""

import json
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from tests_support import write_small_configs
from typer.testing import CliRunner

from mlway_assets.approvals import UNRECORDED, approvals_of
from mlway_assets.asset_keys import registered_version_key
from mlway_assets.cli import app
from mlway_assets.compute.card import ModelCard
from mlway_assets.compute.card_page import card_page
from mlway_assets.compute.population import LABEL, part_of
from mlway_assets.explanation import read_summary
from mlway_assets.model_card import CARD_FILE, PAGE_FILE, MissingCardError, card_html, card_json, read_card, record_card
from mlway_assets.registry import CHAMPION, DIGEST_TAG, ModelVersion
from mlway_assets.resources import Platform
from mlway_assets.run_files import read_file
from mlway_assets.training_sets import LAYER, newest_training_set
from serving.scoring import load_model

PRODUCT = "flight_delay"
PRODUCTS = ("flight_delay", "arrival_delay", "flight_ranking")
runner = CliRunner()


@pytest.fixture(scope="module")
def champion(built_platform: Platform) -> ModelVersion:
    return built_platform.registry.require_champion(PRODUCT)


@pytest.fixture(scope="module")
def card(built_platform: Platform, champion: ModelVersion) -> ModelCard:
    return read_card(built_platform.registry, champion)


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_figures_of_the_card_are_those_of_the_run(name: str, built_platform: Platform) -> None:
    version = built_platform.registry.require_champion(name)
    found = read_card(built_platform.registry, version)
    assert {f"validation_{each.metric}": each.validation for each in found.metrics} | {
        f"test_{each.metric}": each.test for each in found.metrics
    } == {key: value for key, value in version.metrics.items() if key.startswith(("validation_", "test_"))}
    main = next(each for each in found.metrics if each.metric == found.gate_metric)
    for value, interval in ((main.validation, main.validation_interval), (main.test, main.test_interval)):
        assert interval is not None
        assert interval[0] < (value or 0) < interval[1]
    assert found.contributions == read_summary(built_platform.registry, version.run_id)
    assert found.use.intended_use


def test_the_card_says_what_the_version_has_learned_from(built_platform: Platform, card: ModelCard) -> None:
    recorded = newest_training_set(PRODUCT, built_platform)
    assert (card.data.training_set, card.data.sha256) == (recorded.version, recorded.record.sha256)
    assert card.data.inputs == recorded.record.inputs
    product, rows = built_platform.project.products[PRODUCT], built_platform.lake.scan(LAYER, PRODUCT).collect()
    for facts in card.data.parts:
        times = part_of(rows, product, facts.part)["scheduled_departure"]
        assert (facts.rows, facts.first, facts.last) == (len(times), times.min(), times.max())
    assert [facts.part for facts in card.data.parts if facts.is_judged] == ["validate"]


def test_a_slice_is_measured_on_its_own_rows_of_the_test_part(
    built_platform: Platform, champion: ModelVersion, card: ModelCard
) -> None:
    product, rows = built_platform.project.products[PRODUCT], built_platform.lake.scan(LAYER, PRODUCT).collect()
    carriers = [each for each in card.slices if each.column == "carrier"]
    assert {each.column for each in card.slices} == {"carrier", "origin"}
    for each in carriers:
        part = part_of(rows, product, "test").filter(pl.col("carrier") == each.value)
        assert each.rows == len(part) >= product.card.minimum_rows
        scores = load_model(champion.folder).score(part)
        assert each.metrics["roc_auc"] == pytest.approx(roc_auc_score(part[LABEL].to_numpy(), scores))
    gap = next(each for each in card.fairness if (each.column, each.what) == ("carrier", "gap"))
    aucs = {each.value: each.metrics["roc_auc"] for each in carriers}
    assert gap.between == min(aucs, key=lambda value: aucs[value])
    assert gap.seen == pytest.approx(sum(aucs.values()) / len(aucs) - min(aucs.values()))


def test_the_card_shows_the_gates_rules_as_they_were_met(card: ModelCard) -> None:
    assert all(rule.is_met for rule in card.gate)
    limit = next(rule for rule in card.gate if rule.subject == "limit")
    metric = next(each for each in card.metrics if each.metric == card.gate_metric)
    assert (limit.seen, limit.limit, limit.bound) == (pytest.approx(metric.validation), 0.55, "at least")


def test_the_page_kept_with_the_run_is_the_same_bytes_whenever_it_is_drawn(
    built_platform: Platform, champion: ModelVersion, card: ModelCard
) -> None:
    registry = built_platform.registry
    page = card_html(registry, card)
    assert page.encode() == read_file(registry, champion.run_id, PAGE_FILE)
    assert page == card_html(registry, read_card(registry, champion))
    assert page.count("data:image/png;base64,") == 5
    for shown in (card.data.sha256, "Known limits", "By carrier", "promotion.first_version is automatic"):
        assert shown in page
    assert "<script" not in page
    assert "http" not in page


def test_facts_that_are_recorded_stay(built_platform: Platform, champion: ModelVersion) -> None:
    before = read_file(built_platform.registry, champion.run_id, CARD_FILE)
    record_card(built_platform.project.products[PRODUCT], built_platform, champion, [])
    assert read_file(built_platform.registry, champion.run_id, CARD_FILE) == before
    assert ModelCard.model_validate_json(before or b"") == ModelCard.model_validate_json(card_json_of(built_platform))


def card_json_of(platform: Platform) -> bytes:
    version = platform.registry.require_champion(PRODUCT)
    return card_json(read_card(platform.registry, version).model_copy(update={"approvals": ()}))


def test_texts_of_a_card_are_never_taken_for_html(card: ModelCard) -> None:
    hostile = "<img src=x onerror=alert(1)>\"'&"
    slices = tuple(each.model_copy(update={"value": hostile, "column": hostile}) for each in card.slices[:1])
    use = card.use.model_copy(update={"intended_use": hostile, "limitations": (hostile,)})
    changed = card.model_copy(update={"description": hostile, "slices": slices, "use": use, "product": hostile})
    page = card_page(changed, {f"{hostile}.png": b"PNG"})
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;") >= 7


def test_the_registered_version_links_to_its_card(copied: tuple[Platform, dg.DagsterInstance], card: ModelCard) -> None:
    event = copied[1].get_latest_materialization_event(registered_version_key(PRODUCT))
    assert event is not None
    assert event.asset_materialization is not None
    said = event.asset_materialization.metadata
    assert str(said["card"].value).endswith(f"/runs/{card.run_id}/artifacts/{PAGE_FILE}")
    assert said["card_command"].value == f"mlway card {PRODUCT} 1"


def test_a_promotion_says_who_and_when_and_one_by_hand_that_nobody_knows(
    copied: tuple[Platform, dg.DagsterInstance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = copied[0].registry
    first = registry.require_champion(PRODUCT)
    assert [(each.by, each.at is not None) for each in approvals_of(registry, first)] == [("mlway", True)]
    tags = {DIGEST_TAG: first.digest}
    registry.client.create_model_version(PRODUCT, f"runs:/{first.run_id}/model", first.run_id, tags=tags)
    second = registry.require_version(PRODUCT, 2)
    with pytest.raises(MissingCardError, match="Version 2 of flight_delay has no model card"):
        read_card(registry, second)
    assert approvals_of(registry, second) == ()
    registry.client.set_registered_model_alias(PRODUCT, CHAMPION, "2")
    assert approvals_of(registry, second) == (UNRECORDED,)
    monkeypatch.setenv("LOGNAME", "ada")
    variables = {"MLWAY_CONFIGS": str(tmp_path / "configs")}
    done = runner.invoke(app, ["promote", PRODUCT, "1", "--note", "Back to <the> first."], env=variables)
    assert done.exit_code == 0, done.output
    assert registry.require_champion(PRODUCT).version == 1
    by = [(each.by, each.note) for each in approvals_of(registry, first)]
    assert by[1:] == [("ada", "Back to <the> first.")]
    assert "Back to &lt;the&gt; first." in (read_file(registry, first.run_id, PAGE_FILE) or b"").decode()
    assert approvals_of(registry, second) == ()
    registry.client.set_registered_model_alias(PRODUCT, CHAMPION, "2")
    assert approvals_of(registry, second) == (UNRECORDED,)
    assert UNRECORDED not in approvals_of(registry, first)


def test_the_command_writes_the_page_and_prints_the_card(
    built_platform: Platform, tmp_path: Path, card: ModelCard
) -> None:
    configs = write_small_configs(tmp_path / "configs", built_platform.environment.state)
    variables = {"MLWAY_CONFIGS": str(configs)}
    file = tmp_path / "cards" / "one.html"
    done = runner.invoke(app, ["card", PRODUCT, "--out", str(file), "--json"], env=variables)
    assert done.exit_code == 0, done.output
    assert file.read_text(encoding="utf-8") == card_html(built_platform.registry, card)
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(card_json(card))
    for arguments, words in (
        (["card", PRODUCT, "7"], "no registered version 7. Known: 1."),
        (["card", "nothing"], "Known: arrival_delay, flight_delay, flight_ranking"),
        (["promote", PRODUCT, "7"], "no registered version 7. Known: 1."),
        (["promote", PRODUCT, "1", "--note", "x" * 1_001], "1001 letters; at most 1000 are kept"),
    ):
        refused = runner.invoke(app, arguments, env=variables)
        assert refused.exit_code == 1
        assert words in refused.stderr
