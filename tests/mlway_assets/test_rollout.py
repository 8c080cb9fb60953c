"""Serving follows what is desired, and is told so only where that is not what runs already."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from configs.environments import Ports
from configs.load import load_environment, load_project
from mlway_assets.resources import Platform
from mlway_assets.rollout import open_serve_api, roll_out_code, roll_out_versions
from serving.deploy import ServedVersion, code_digest

NOTHING = dict.fromkeys(load_project().products)


class ServeRestApi:
    """Keeps what it is told, and gives it back as Ray does: what was set, and nothing else."""

    def __init__(self) -> None:
        self.declared: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                outer.declared.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer({})

            def do_GET(self) -> None:
                latest = outer.declared[-1]["applications"] if outer.declared else []
                self.answer({"applications": {each["name"]: {"deployed_app_config": each} for each in latest}})

            def answer(self, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(200 if self.headers["Authorization"] == "Bearer token" else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()


@pytest.fixture
def ray() -> Iterator[ServeRestApi]:
    ray = ServeRestApi()
    yield ray
    ray.server.shutdown()
    ray.server.server_close()
    ray.thread.join()


@pytest.fixture
def platform(ray: ServeRestApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setenv("MLWAY_STATE", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ray_token").write_text("token", encoding="ascii")
    ports = Ports(ray_dashboard=ray.server.server_address[1])
    return Platform(load_project(), load_environment("local").model_copy(update={"ports": ports}))


def test_what_runs_already_is_not_declared_again(platform: Platform, ray: ServeRestApi) -> None:
    api = open_serve_api(platform)
    for _ in range(2):
        roll_out_code(platform, api, NOTHING)
        assert roll_out_versions(platform, api, NOTHING) == []
    assert len(ray.declared) == 1


def test_another_version_is_declared_with_the_code_that_runs(platform: Platform, ray: ServeRestApi) -> None:
    api = open_serve_api(platform)
    roll_out_code(platform, api, NOTHING)
    for application in ray.declared[0]["applications"]:
        application["args"]["code"] = "of-yesterday"
    desired = NOTHING | {"flight_delay": ServedVersion(3, "digest")}
    assert roll_out_versions(platform, api, desired) == ["flight_delay: 3"]
    assert {application["args"]["code"] for application in ray.declared[1]["applications"]} == {"of-yesterday"}
    configs = {each["name"]: each["deployments"][0].get("user_config") for each in ray.declared[1]["applications"]}
    assert configs["flight_delay"] == {"version": 3, "digest": "digest"}
    roll_out_code(platform, api, desired)
    assert {application["args"]["code"] for application in ray.declared[2]["applications"]} == {code_digest()}
