"""Configuration: what is refused, and in which words."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.access import IdentityProvider
from configs.environments import SqliteOnlineStore
from configs.errors import ConfigError
from configs.json_schemas import json_schemas
from configs.load import PROJECT_ROOT, load_environment, load_project

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    return Path(shutil.copytree(PROJECT_ROOT / "configs", tmp_path / "configs", ignore=ignored))


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_file_names_the_file_the_field_and_a_remedy(path: Path, folder: Path) -> None:
    """Each fixture says in its first lines which file it replaces and what the message must hold."""
    lines = path.read_text(encoding="utf-8").splitlines()
    target = lines[0].removeprefix("# replaces: ")
    expected = [line.removeprefix("# expect: ") for line in lines if line.startswith("# expect: ")]
    shutil.copyfile(path, folder / target)
    with pytest.raises(ConfigError) as error:
        load_environment("local", folder) if target.startswith("environments") else load_project(folder)
    assert error.value.file.endswith(".yaml")
    assert "Hint: " in str(error.value)
    for text in expected:
        assert text in str(error.value)


def test_the_bundled_files_load_and_agree() -> None:
    project = load_project()
    assert project.model_features(project.products["flight_delay"])


def test_an_unknown_environment_names_those_there_are(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no environment 'produktion'\. Known: local"):
        load_environment("produktion", folder)


def test_two_sources_must_not_bring_the_same_table(folder: Path) -> None:
    file = folder / "sources" / "airports_supplement.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["tables"]["planes"] = content["tables"].pop("airports_supplement")
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError, match="has a table of that name"):
        load_project(folder)


def test_committed_json_schemas_are_those_of_the_types() -> None:
    for name, text in json_schemas().items():
        committed = (PROJECT_ROOT / "configs" / "schemas" / name).read_text(encoding="utf-8")
        assert committed == text, "run `mlway schema`"


def test_a_moved_port_is_taken_from_the_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLWAY_PORTS", "dagster=3456")
    assert load_environment("local").ports.dagster == 3456


@pytest.mark.parametrize("text", ["dagster", "dagster=abc", "nothing=1", "serve=70000"])
def test_a_port_that_makes_no_sense_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLWAY_PORTS", text)
    with pytest.raises(ConfigError, match="MLWAY_PORTS"):
        load_environment("local")


def test_a_relative_path_of_the_online_store_starts_at_the_projects_root(folder: Path) -> None:
    path = folder / "environments" / "local.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("{state}/feast/online.db", "here/online.db"))
    online = load_environment("local", folder).feature_store.online
    assert isinstance(online, SqliteOnlineStore)
    assert online.path == str(PROJECT_ROOT / "here" / "online.db")


def test_an_environment_that_says_nothing_of_access_requires_keys_kept_in_its_state(folder: Path) -> None:
    file = folder / "environments" / "local.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    declared = load_environment("local", folder)
    del content["access"]
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    environment = load_environment("local", folder)
    assert environment.access.required
    assert environment.access_database == declared.access_database == f"sqlite:///{environment.state}/access.db"


@pytest.mark.parametrize("host", ["127.0.0.1:9", "localhost", "[::1]:9"])
def test_signing_keys_may_come_by_http_on_loopback(host: str) -> None:
    address = {"issuer": "x", "audience": "y", "jwks_url": f"http://{host}/keys"}
    assert IdentityProvider.model_validate(address)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1.example/k", "http://localhost@example/k", "file:///k", "https://", "k"]
)
def test_signing_keys_never_come_by_a_way_that_others_can_change(url: str) -> None:
    with pytest.raises(ValueError, match="signing keys come by https"):
        IdentityProvider.model_validate({"issuer": "x", "audience": "y", "jwks_url": url})


@pytest.mark.parametrize(
    ("gate", "field", "name"),
    [
        ({"slices": {"by": ["karrier"]}}, "gate.slices.by", "karrier"),
        ({"fairness": {"by": ["origin", "airport"]}}, "gate.fairness.by", "airport"),
        ({"behaviour": {"increasing": ["carrier"]}}, "gate.behaviour.increasing", "carrier"),
        ({"behaviour": {"decreasing": ["aircraft_year_built"]}}, "gate.behaviour.decreasing", "aircraft_year_built"),
        ({"behaviour": {"invariant": ["colour"]}}, "gate.behaviour.invariant", "colour"),
    ],
)
def test_what_the_gate_names_must_be_there(folder: Path, gate: dict[str, Any], field: str, name: str) -> None:
    file = folder / "products" / "flight_delay.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["gate"] |= gate
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"field '{field}': '{name}' is not known"):
        load_project(folder)
