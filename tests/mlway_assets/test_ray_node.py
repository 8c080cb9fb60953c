"""The command and the settings of a Ray node: alone on this machine, the head of others, or one that joins."""

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.environments import Environment
from configs.load import load_environment, load_project
from configs.secrets import MissingSecretError
from mlway_assets.local.paths import local_paths
from mlway_assets.local.services import prepare, ray_node
from mlway_assets.local.up import ClusterElsewhereError, bring_up
from mlway_assets.resources import Platform


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    monkeypatch.setenv("MLWAY_STATE", str(tmp_path))
    environment = load_environment("production")
    yield environment
    shutil.rmtree(local_paths(environment).sockets, ignore_errors=True)


def test_a_node_alone_is_a_head_that_no_other_can_join(environment: Environment) -> None:
    node = ray_node(environment, "production")
    assert "--head" in node.command
    assert "--node-ip-address=127.0.0.1" in node.command
    assert node.variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_a_head_takes_others_at_its_own_address(environment: Environment) -> None:
    node = ray_node(environment, "production", "10.0.0.1")
    assert {"--head", "--node-ip-address=10.0.0.1", "--dashboard-host=10.0.0.1"} < {*node.command}
    assert node.variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "1"


def test_a_node_that_joins_has_the_heads_settings_and_none_of_its_tasks(environment: Environment) -> None:
    head, node = (ray_node(environment, "production", "10.0.0.1", join) for join in (None, "10.0.0.9:6399"))
    assert head.variables == node.variables
    assert "--address=10.0.0.9:6399" in node.command
    assert not [word for word in node.command if word.startswith(("--head", "--port", "--include-dashboard"))]


def test_the_token_that_the_secret_holds_is_readable_by_its_owner_only(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingSecretError, match="RAY_CLUSTER_TOKEN"):
        prepare(environment)
    for token in ("first" * 8, "second" * 8):
        monkeypatch.setenv("RAY_CLUSTER_TOKEN", token)
        prepare(environment)
        file = local_paths(environment).ray_token
        assert file.read_text(encoding="utf-8") == token
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_up_starts_nothing_beside_a_cluster_elsewhere(environment: Environment, tmp_path: Path) -> None:
    with pytest.raises(ClusterElsewhereError, match=r"'production' .* http://ray-head\.internal:8265") as error:
        bring_up(Platform(load_project(), environment), lambda _: None, lambda *_: None)
    assert "`mlway node`" in str(error.value)
    assert not [*tmp_path.iterdir()]
