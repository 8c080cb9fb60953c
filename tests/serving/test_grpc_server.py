"""The Open Inference Protocol over gRPC, with a real server, and over a real HTTP connection to the endpoint."""

import asyncio
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from protocol_support import PRODUCT, ROW, LocalEndpoint, protocol_product, protocol_project, refusal, row_columns

from serving.grpc_server import SERVICE, HttpCalls, build_server
from serving.inference_service import MAX_BODY_BYTES, InferenceService, ProductCall, Reply
from serving.open_inference import ProductTensors, instances_body
from serving.open_inference_grpc import infer_request_message
from serving.proto import open_inference_pb2 as pb2

PROJECT = protocol_project()
METHODS = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> LocalEndpoint:
    return LocalEndpoint(tmp_path_factory.mktemp("models"))


@pytest.fixture
def endpoint(shared: LocalEndpoint) -> LocalEndpoint:
    shared.refusal = None
    return shared


class Client:
    """Calls methods by their names, as the specification writes them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def __call__(self, method: str, message: Any = b"", **options: Any) -> Any:
        content = message if isinstance(message, bytes) else message.SerializeToString()
        answer = await self._channel.unary_unary(f"/{SERVICE}/{method}")(content, timeout=20, **options)
        return getattr(pb2, f"{method}Response").FromString(answer)

    async def refused(self, method: str, message: Any = b"", **options: Any) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self(method, message, **options)
        return error.value


@asynccontextmanager
async def client_of(call: ProductCall) -> AsyncIterator[Client]:
    server, port = build_server(InferenceService(PROJECT, call), 0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel)
    await server.stop(None)


def run(call: ProductCall, talk: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
    async def both() -> None:
        async with client_of(call) as client:
            await talk(client)

    asyncio.run(both())


def infer(columns: Any, *, raw: bool = False, **members: Any) -> pb2.ModelInferRequest:
    message = infer_request_message(PRODUCT, ProductTensors(protocol_product()).tensors(columns), raw=raw)
    message.MergeFrom(pb2.ModelInferRequest(**members))
    return message


def test_typed_and_raw_requests_give_the_bits_that_the_predictor_gives(endpoint: LocalEndpoint) -> None:
    asked = row_columns(*({"flight": number, "fare": number / 7} for number in range(0, 3000, 17)))
    expected = endpoint.scores(endpoint.reader.read(instances_body(asked)).rows)

    async def talk(client: Client) -> None:
        typed = await client("ModelInfer", infer(asked, id="42"))
        assert (typed.model_name, typed.model_version, typed.id) == (PRODUCT, "1", "42")
        assert [output.name for output in typed.outputs] == ["score", "missing", "decision_id"]
        assert list(typed.outputs[0].contents.fp64_contents) == expected
        raw = await client("ModelInfer", infer(asked, raw=True, outputs=[{"name": "score"}]))
        assert not raw.outputs[0].HasField("contents")
        assert list(raw.raw_output_contents) == [struct.pack(f"<{len(expected)}d", *expected)]

    run(endpoint, talk)


def test_health_and_metadata_are_those_of_the_specification(endpoint: LocalEndpoint) -> None:
    async def talk(client: Client) -> None:
        assert (await client("ServerLive")).live
        assert (await client("ServerReady")).ready
        assert (await client("ServerMetadata")).name == "mlway"
        assert (await client("ModelReady", pb2.ModelReadyRequest(name=PRODUCT, version="1"))).ready
        metadata = await client("ModelMetadata", pb2.ModelMetadataRequest(name=PRODUCT))
        assert (metadata.name, list(metadata.versions)) == (PRODUCT, ["1"])
        assert [tensor.name for tensor in metadata.inputs] == list(ROW)
        endpoint.refusal = Reply(500, {}, b"")
        assert (await client("ServerLive")).live
        assert not (await client("ServerReady")).ready
        assert not (await client("ModelReady", pb2.ModelReadyRequest(name=PRODUCT))).ready

    run(endpoint, talk)


def test_unknown_models_and_versions_are_not_found(endpoint: LocalEndpoint) -> None:
    async def talk(client: Client) -> None:
        for method, message in (
            ("ModelInfer", infer(row_columns(), model_version="2")),
            ("ModelMetadata", pb2.ModelMetadataRequest(name="colour")),
            ("ModelReady", pb2.ModelReadyRequest(name=PRODUCT, version="2")),
        ):
            assert (await client.refused(method, message)).code() == grpc.StatusCode.NOT_FOUND

    run(endpoint, talk)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, grpc.StatusCode.UNAUTHENTICATED),
        (403, grpc.StatusCode.PERMISSION_DENIED),
        (404, grpc.StatusCode.NOT_FOUND),
        (422, grpc.StatusCode.INVALID_ARGUMENT),
        (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (503, grpc.StatusCode.UNAVAILABLE),
        (504, grpc.StatusCode.DEADLINE_EXCEEDED),
        (500, grpc.StatusCode.INTERNAL),
    ],
)
def test_each_status_of_the_endpoint_is_a_code_with_its_detail(
    endpoint: LocalEndpoint, status: int, code: grpc.StatusCode
) -> None:
    async def talk(client: Client) -> None:
        endpoint.refusal = refusal(status, "No", "Not this time.", {"Retry-After": "3"})
        error = await client.refused("ModelInfer", infer(row_columns()))
        assert (error.code(), error.details()) == (code, "Not this time.")
        assert dict(error.trailing_metadata() or ())["retry-after"] == "3"

    run(endpoint, talk)


def test_a_wrong_tensor_is_an_invalid_argument_that_names_it(endpoint: LocalEndpoint) -> None:
    async def talk(client: Client) -> None:
        message = infer(row_columns())
        message.inputs[1].datatype = "FP64"
        error = await client.refused("ModelInfer", message)
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "'flight'" in (error.details() or "")

    run(endpoint, talk)


def test_the_callers_credentials_are_passed_on(endpoint: LocalEndpoint) -> None:
    async def talk(client: Client) -> None:
        metadata = (("authorization", "Bearer k"), ("x-api-key", "k"), ("cookie", "a=b"), ("trace-bin", b"\x00"))
        await client("ModelInfer", infer(row_columns()), metadata=metadata)
        assert endpoint.headers == {"authorization": "Bearer k", "x-api-key": "k"}

    run(endpoint, talk)


def test_a_message_over_the_limit_is_refused_before_it_is_read(endpoint: LocalEndpoint) -> None:
    async def talk(client: Client) -> None:
        error = await client.refused("ModelInfer", b"\x00" * (MAX_BODY_BYTES + 1))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    run(endpoint, talk)


def test_no_bytes_make_the_server_fail(endpoint: LocalEndpoint) -> None:
    """Random bytes, and requests with random bytes put into them."""
    loop = asyncio.new_event_loop()
    opened = client_of(endpoint)
    client = loop.run_until_complete(opened.__aenter__())
    good = infer(row_columns()).SerializeToString()

    @settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(st.sampled_from(METHODS), st.binary(max_size=40), st.integers(0, len(good)), st.integers(0, 8))
    def try_bytes(method: str, content: bytes, start: int, removed: int) -> None:
        codes = set()
        for sent in (content, good[:start] + content + good[start + removed :]):
            try:
                loop.run_until_complete(client(method, sent))
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
        assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}

    try:
        try_bytes()
    finally:
        loop.run_until_complete(opened.__aexit__(None, None, None))
        loop.close()


@asynccontextmanager
async def http_calls(endpoint: LocalEndpoint) -> AsyncIterator[HttpCalls]:
    """The endpoint behind HTTP, on a free port."""

    async def answer(request: web.Request) -> web.Response:
        action = request.match_info["action"]
        assert request.method == ("POST" if action == "predict" else "GET")
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = await endpoint(PRODUCT, action, headers, await request.read())
        return web.Response(status=reply.status, headers=dict(reply.headers), body=reply.body)

    app = web.Application()
    app.router.add_route("*", protocol_product().route + "/{action}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
        yield HttpCalls(session, f"http://127.0.0.1:{port}", PROJECT)
    await runner.cleanup()


def test_the_endpoint_is_called_over_http(endpoint: LocalEndpoint) -> None:
    async def talk() -> None:
        async with http_calls(endpoint) as calls, client_of(calls) as client:
            answer = await client("ModelInfer", infer(row_columns()), metadata=(("x-api-key", "k"),))
            assert answer.outputs[0].contents.fp64_contents[0] > 0
            assert endpoint.headers["x-api-key"] == "k"
            assert (await client("ServerReady")).ready
            endpoint.refusal = refusal(429, "Too Many Requests", "Wait.", {"Retry-After": "3"})
            error = await client.refused("ModelInfer", infer(row_columns()))
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert dict(error.trailing_metadata() or ())["retry-after"] == "3"

    asyncio.run(talk())


def test_an_endpoint_that_is_gone_is_unavailable_and_one_that_hangs_is_too_late() -> None:
    async def talk() -> None:
        timeout = aiohttp.ClientTimeout(total=0.3)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                client_of(HttpCalls(session, address, PROJECT)) as client,
            ):
                error = await client.refused("ModelInfer", infer(row_columns()))
                assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                silent.close()
                error = await client.refused("ModelInfer", infer(row_columns()))
                assert error.code() == grpc.StatusCode.UNAVAILABLE

    asyncio.run(talk())


def test_the_compiled_messages_are_those_of_the_proto_file(tmp_path: Path) -> None:
    root, name = Path(__file__).parents[2], "serving/proto/open_inference"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"--python_out={tmp_path}"]
    subprocess.run([*command, f"--pyi_out={tmp_path}", f"{name}.proto"], cwd=root, check=True)
    for suffix in ("_pb2.py", "_pb2.pyi"):
        assert (root / (name + suffix)).read_text() == (tmp_path / (name + suffix)).read_text(), "run `make proto`"
