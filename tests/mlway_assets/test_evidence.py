"""`mlway evidence`: what the compliance pack of a version holds, and that a change to it is found."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import dagster as dg
import pytest
from packaging.requirements import Requirement
from tests_support import write_small_configs
from typer.testing import CliRunner

from configs.load import PROJECT_ROOT
from mlway_assets.cli import app
from mlway_assets.compute.sealed_zip import MANIFEST, SealError, seal_problems, sealed_zip
from mlway_assets.evidence import evidence_of
from mlway_assets.model_card import card_html, read_card
from mlway_assets.resources import Platform
from mlway_assets.training_sets import newest_training_set

PRODUCT = "flight_delay"
runner = CliRunner()


@pytest.fixture(scope="module")
def pack(built_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the command."""
    folder = tmp_path_factory.mktemp("evidence")
    file = folder / "pack.zip"
    done = runner.invoke(app, ["evidence", PRODUCT, "1", "--out", str(file), "--json"], env=variables(built_platform))
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    manifest = read(file)[MANIFEST]
    assert told["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert told["missing"] == []
    assert {*told["files"], MANIFEST} == set(read(file))
    return file


def variables(platform: Platform) -> dict[str, str]:
    configs = platform.environment.state.parent / "evidence_configs"
    if not configs.exists():
        write_small_configs(configs, platform.environment.state)
    return {"MLWAY_CONFIGS": str(configs)}


def read(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_every_file_has_the_hash_that_the_manifest_says(pack: Path) -> None:
    files = read(pack)
    lines = dict(reversed(line.split("  ")) for line in files.pop(MANIFEST).decode().splitlines())
    assert lines == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert list(lines) == sorted(lines)
    assert seal_problems(pack.read_bytes(), "pack") == []


def test_the_pack_says_what_made_the_version_and_what_it_was_checked_for(pack: Path, built_platform: Platform) -> None:
    files, registry = read(pack), built_platform.registry
    version, recorded = registry.require_champion(PRODUCT), newest_training_set(PRODUCT, built_platform)
    data, model = json.loads(files["data.json"]), json.loads(files["model.json"])
    assert (data["version"], data["sha256"]) == (recorded.version, recorded.record.sha256)
    assert data["feature_definitions"] == recorded.record.feature_definitions
    assert json.loads(files["configuration.json"]) == recorded.record.declarations
    assert model["files"] == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(version.folder.iterdir())
    }
    assert (model["metrics"], model["digest"]) == (dict(version.metrics), version.digest)
    assert model["git_commit"] == registry.client.get_run(version.run_id).data.tags["mlway.git_commit"]
    assert files["card.html"].decode() == card_html(registry, read_card(registry, version))
    assert [each["by"] for each in json.loads(files["approvals.json"])] == ["mlway"]
    checks = {(each["asset"], each["check"]): each for each in json.loads(files["checks.json"])}
    expected = {("training_set", "no_leak"), ("training_set", "online_skew")}
    expected |= {("candidate", f"gate_{subject}") for subject in ("limit", "champion", "cost", "plausible")}
    assert set(checks) == {(f"models/{PRODUCT}/{asset}", check) for asset, check in expected}
    assert all(each["passed"] for each in checks.values())
    assert (
        "roc_auc is at least the minimum" in checks[(f"models/{PRODUCT}/candidate", "gate_limit")]["metadata"]["rules"]
    )


def test_the_bill_of_materials_names_every_pinned_distribution_with_its_version(pack: Path) -> None:
    software = json.loads(read(pack)["software.cdx.json"])
    found = {each["name"]: each for each in software["components"]}
    lines = (PROJECT_ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line.removesuffix("\\").strip()) for line in lines if line[:1].isalnum()]
    here = [each for each in pinned if each.marker is None or each.marker.evaluate()]
    assert len(here) > 100
    for each in here:
        component = found[each.name]
        assert each.specifier.contains(component["version"]), each
        assert component["purl"] == f"pkg:pypi/{each.name}@{component['version']}"
    assert (software["bomFormat"], software["specVersion"]) == ("CycloneDX", "1.6")
    assert found["numpy"]["licenses"][0]["expression"].startswith("BSD-3-Clause")
    assert len({each["bom-ref"] for each in software["components"]}) == len(software["components"])


def test_the_same_version_gives_the_same_bytes(pack: Path, built_platform: Platform, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    done = runner.invoke(app, ["evidence", PRODUCT, "--out", str(again)], env=variables(built_platform))
    assert done.exit_code == 0, done.output
    assert again.read_bytes() == pack.read_bytes()


def repacked(pack: Path, file: Path, **changes: bytes | None) -> Path:
    """The pack with files changed, added, or, where None, removed, and the manifest as it was."""
    files = read(pack) | {name.replace("_", "."): content for name, content in changes.items() if content is not None}
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in files.items():
            if name.replace(".", "_") not in changes or changes[name.replace(".", "_")] is not None:
                packed.writestr(name, content)
    return file


def test_a_pack_that_was_tampered_with_is_found(pack: Path, tmp_path: Path) -> None:
    card = read(pack)["card.json"].replace(b'"is_met": true', b'"is_met": true ', 1)
    tampered = repacked(pack, tmp_path / "other.zip", card_json=card, checks_json=None, note_txt=b"trust me")
    done = runner.invoke(app, ["evidence", "--verify", str(tampered), "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["problems"] == [
        "card.json was altered",
        "checks.json is missing",
        "note.txt is not in the manifest",
    ]
    shown = runner.invoke(app, ["evidence", "--verify", str(tampered)])
    assert "card.json was altered" in shown.stdout
    intact = runner.invoke(app, ["evidence", "--verify", str(pack)])
    assert (intact.exit_code, "intact" in intact.stdout) == (0, True)


def test_a_flipped_byte_within_a_file_is_named(pack: Path) -> None:
    content = bytearray(pack.read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        entry = packed.getinfo("model.json")
    content[entry.header_offset + 30 + len("model.json") + entry.compress_size // 2] ^= 0xFF
    assert seal_problems(bytes(content), "pack") == ["model.json was altered"]


@pytest.mark.parametrize("content", [b"", b"no zip", sealed_zip({"a": b"1"})[:-30]])
def test_what_is_no_pack_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(content)
    done = runner.invoke(app, ["evidence", "--verify", str(file)])
    assert done.exit_code == 1
    assert "is no whole zip file" in done.stderr
    gone = runner.invoke(app, ["evidence", "--verify", str(tmp_path / "none.zip")])
    assert (gone.exit_code, "cannot be read: No such file" in gone.stderr) == (1, True)


def test_a_zip_without_a_manifest_is_refused(tmp_path: Path, pack: Path) -> None:
    with pytest.raises(SealError, match="has no MANIFEST"):
        seal_problems(repacked(pack, tmp_path / "bare.zip", MANIFEST_sha256=None).read_bytes(), "bare.zip")


def test_what_the_event_log_has_forgotten_is_said_in_the_pack(built_platform: Platform) -> None:
    with dg.instance_for_test() as forgetful:
        found = evidence_of(built_platform.registry.require_champion(PRODUCT), built_platform, forgetful)
    assert json.loads(found.files["checks.json"]) == []
    assert "its checks are not here" in found.missing[0]
    assert found.missing[0] in found.files["README.txt"].decode()


def test_an_unknown_product_or_version_is_answered_with_the_known_ones(built_platform: Platform) -> None:
    for arguments, words in (
        (["evidence", PRODUCT, "9"], "no registered version 9. Known: 1."),
        (["evidence", "nothing", "1"], "Known: arrival_delay, flight_delay, flight_ranking"),
    ):
        refused = runner.invoke(app, arguments, env=variables(built_platform))
        assert refused.exit_code == 1
        assert words in refused.stderr
    assert runner.invoke(app, ["evidence"]).exit_code == 2
