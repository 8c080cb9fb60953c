"""KServe V1, Open Inference Protocol V2 and OpenAPI over HTTP, in front of a real reader and a real model."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from protocol_support import PRODUCT, ROW, LocalEndpoint, protocol_product, protocol_project, refusal, row_columns
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from configs.load import load_project
from serving.gateway import Gateway
from serving.inference_service import MAX_BODY_BYTES, InferenceService, Reply
from serving.open_inference import ProductTensors, instances_body
from serving.open_inference_json import tensor_object
from serving.openapi import openapi_document

INFER = f"/v2/models/{PRODUCT}/infer"


class Server:
    """The gateway behind HTTP, and the endpoint behind the gateway."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = LocalEndpoint(folder)
        project = protocol_project()
        self.document = openapi_document(project)
        self._gateway = Gateway(InferenceService(project, self.endpoint), self.document)

    def request(self, method: str, path: str, **sent: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._answer)
            async with httpx.AsyncClient(transport=transport, base_url="http://serve") as client:
                return await client.request(method, path, **sent)

        return asyncio.run(ask())

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, **sent: Any) -> httpx.Response:
        return self.request("POST", path, **sent)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._gateway.answer(Request(scope, receive))
        await response(scope, receive, send)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(tmp_path_factory.mktemp("models"))


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    yield shared
    shared.endpoint.refusal = None
    shared.endpoint.predictor.use(1, None)


def infer(columns: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    return {"inputs": [tensor_object(one) for one in ProductTensors(protocol_product()).tensors(columns)]} | members


def scores(server: Server, columns: Mapping[str, Any]) -> list[float]:
    return server.endpoint.scores(server.endpoint.reader.read(instances_body(columns)).rows)


def test_v1_and_v2_give_the_bits_that_the_predictor_gives(server: Server) -> None:
    asked = row_columns(*({"flight": number, "fare": number / 7} for number in range(0, 3000, 17)))
    expected = scores(server, asked)
    assert len(set(expected)) > 5
    v1 = server.post(f"/v1/models/{PRODUCT}:predict", content=instances_body(asked)).json()
    assert [prediction["score"] for prediction in v1["predictions"]] == expected
    v2 = server.post(INFER, json=infer(asked, id="42", outputs=[{"name": "score"}])).json()
    rows = len(expected)
    assert v2 == {
        "model_name": PRODUCT,
        "model_version": "1",
        "id": "42",
        "outputs": [{"name": "score", "shape": [rows], "datatype": "FP64", "data": expected}],
    }


def test_health_models_and_metadata_are_those_of_the_specification(server: Server) -> None:
    get = server.get
    assert get("/v2/health/live").json()["live"] is True
    assert get("/v2/health/ready").json()["ready"] is True
    assert get("/v2").json() == {"name": "mlway", "version": "0.1.0", "extensions": []}
    assert get("/v1/models").json() == {"models": [PRODUCT]}
    for path in (f"/v1/models/{PRODUCT}", f"/v2/models/{PRODUCT}/ready", f"/v2/models/{PRODUCT}/versions/1/ready"):
        assert get(path).json() == {"name": PRODUCT, "ready": True}
    metadata = get(f"/v2/models/{PRODUCT}").json()
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == (PRODUCT, ["1"], "mlway_lightgbm")
    assert {one["name"]: (one["datatype"], one["shape"]) for one in metadata["inputs"]} == {
        **dict.fromkeys(("carrier", "origin", "dest", "tailnum", "scheduled_departure"), ("BYTES", [-1])),
        "flight": ("INT64", [-1]),
        "fare": ("FP64", [-1]),
        "is_codeshare": ("BOOL", [-1]),
    }
    assert metadata["outputs"][0] == {"name": "score", "datatype": "FP64", "shape": [-1]}


def test_another_version_than_the_served_one_is_not_found_and_not_predicted(server: Server) -> None:
    before = server.endpoint.predictions
    response = server.post(f"/v2/models/{PRODUCT}/versions/2/infer", json=infer(row_columns()))
    assert (response.status_code, server.endpoint.predictions) == (404, before)
    assert response.json()["error"] == f"Version '2' of {PRODUCT} is not served; 1 is."
    for path in ("", "/ready"):
        assert server.get(f"/v2/models/{PRODUCT}/versions/2{path}").status_code == 404
    served = server.post(f"/v2/models/{PRODUCT}/versions/1/infer", json=infer(row_columns()))
    assert served.json()["model_version"] == "1"
    server.endpoint.predictor.use(None, None)
    assert server.get(f"/v2/models/{PRODUCT}").json()["versions"] == ["baseline"]


def test_a_problem_of_the_endpoint_points_to_the_tensor(server: Server) -> None:
    asked = infer(row_columns({}, {"scheduled_departure": "2013-10-01T14:00:00"}))
    problem = server.post(INFER, json=asked)
    assert (problem.status_code, problem.headers["content-type"]) == (422, "application/problem+json")
    found = problem.json()["errors"][0]
    assert found["pointer"] == "/inputs/5/data/1"
    assert found["detail"].startswith("Tensor 'scheduled_departure', element 1: ")
    assert problem.json()["error"] == problem.json()["detail"]


def test_the_callers_credentials_and_trace_are_passed_on_and_nothing_else(server: Server) -> None:
    sent = {"Authorization": "Bearer k", "X-API-Key": "k", "traceparent": "00-1-2-01", "Cookie": "a=b"}
    server.post(INFER, json=infer(row_columns()), headers=sent)
    assert server.endpoint.headers == {"authorization": "Bearer k", "x-api-key": "k", "traceparent": "00-1-2-01"}


@pytest.mark.parametrize("path", [INFER, f"/v1/models/{PRODUCT}:predict"])
@pytest.mark.parametrize(("status", "headers"), [(401, {"WWW-Authenticate": "Bearer"}), (429, {"Retry-After": "3"})])
def test_a_refusal_comes_back_with_its_status_and_headers(
    server: Server, path: str, status: int, headers: dict[str, str]
) -> None:
    server.endpoint.refusal = refusal(status, "No", "Not this time.", headers | {"Server": "inner"})
    response = server.post(path, json=infer(row_columns()))
    assert (response.status_code, response.json()["detail"]) == (status, "Not this time.")
    assert headers.items() <= {name.title().replace("Www", "WWW"): v for name, v in response.headers.items()}.items()
    assert response.headers.get("server") != "inner"


def test_an_endpoint_behind_a_broken_proxy_is_unavailable_and_not_a_bug(server: Server) -> None:
    server.endpoint.refusal = Reply(500, {}, b"Internal Server Error")
    response = server.post(INFER, json=infer(row_columns()))
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert server.get("/v2/health/ready").status_code == 503
    assert server.get("/v2/health/live").status_code == 200
    assert server.get(f"/v2/models/{PRODUCT}/ready").status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v3", 404),
        ("GET", "/v2/models/colour", 404),
        ("POST", "/v2/models/colour/infer", 404),
        ("POST", "/v1/models/colour:predict", 404),
        ("POST", f"/v1/models/{PRODUCT}:explain", 404),
        ("GET", "/v2/models/a%0ab", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/docs", 405),
    ],
)
def test_what_is_not_there_is_a_problem(server: Server, method: str, path: str, status: int) -> None:
    response = server.request(method, path, json=infer(row_columns()) if method == "POST" else None)
    assert response.status_code == status
    assert response.json()["status"] == status
    assert ("allow" in response.headers) == (status == 405)


def test_a_body_that_is_too_large_is_refused(server: Server) -> None:
    assert server.post(INFER, content=b"[" * (MAX_BODY_BYTES + 1)).status_code == 413


def test_binary_tensors_are_refused_by_name(server: Server) -> None:
    response = server.post(INFER, content=b"{}", headers={"Inference-Header-Content-Length": "2"})
    assert response.status_code == 415
    assert "binary_data=False" in response.json()["error"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode), path=st.sampled_from([0, 1]))
def test_no_bytes_make_the_gateway_fail(server: Server, content: bytes, path: int) -> None:
    paths = (INFER, f"/v1/models/{PRODUCT}:predict")
    assert server.post(paths[path], content=content).status_code == 422


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(
        st.sampled_from(sorted(ROW)), st.text(max_size=5) | st.integers(-(2**64), 2**64) | st.floats() | st.none()
    )
)
def test_no_values_make_the_gateway_fail(server: Server, changes: dict[str, Any]) -> None:
    asked = infer(row_columns())
    for tensor in asked["inputs"]:
        if tensor["name"] in changes:
            tensor["data"] = [changes[tensor["name"]]]
    assert server.post(INFER, content=json.dumps(asked)).status_code in (200, 422)


def test_the_openapi_document_is_valid_for_every_bundled_product(server: Server) -> None:
    for document in (server.document, openapi_document(load_project())):
        OpenAPIV31SpecValidator(document).validate()
    assert server.get("/openapi.json").json() == json.loads(json.dumps(server.document))


def test_every_documented_address_answers_as_documented(server: Server) -> None:
    own = [path for path in server.document["paths"] if not path.startswith(protocol_product().route)]
    assert len(own) >= 14
    for path in own:
        for method, operation in server.document["paths"][path].items():
            if method == "parameters":
                continue
            body = _example(server.document, operation)
            response = server.request(method, path.replace("{version}", "1"), json=body)
            assert response.status_code == 200, (path, response.text)


def _example(document: dict[str, Any], operation: dict[str, Any]) -> Any:
    if "requestBody" not in operation:
        return None
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
    schemas = document["components"]["schemas"]
    return schemas[name].get("example") or {"instances": [schemas[f"{PRODUCT}.instance"]["example"]]}


def test_the_page_loads_and_runs_nothing(server: Server) -> None:
    page = server.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert not re.search(r"<script|<link|<img|https?://|url\(|@import", page.text)
    assert INFER in page.text
