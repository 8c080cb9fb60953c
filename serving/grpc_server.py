"""The Open Inference Protocol over gRPC: `python -m serving.grpc_server`, a process of its own beside Ray Serve.

It calls the products over HTTP, as any client would. Ray's own gRPC proxy finds an application by a metadata entry that
the protocol's clients do not send.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import aiohttp
import grpc
import grpc.aio

from configs.environments import Environment
from configs.load import Project, load_environment, load_project
from serving.inference_service import (
    MAX_BODY_BYTES,
    SERVER_NAME,
    SERVER_VERSION,
    InferenceService,
    Reply,
    unprocessable,
)
from serving.open_inference import TensorError, TensorMetadata
from serving.open_inference_grpc import infer_message, parse, read_infer_request
from serving.problems import Problem
from serving.proto import open_inference_pb2 as pb2

SERVICE = "inference.GRPCInferenceService"
CALL_SECONDS = 30.0
GRACE_SECONDS = 10.0
MOST_CALLS = 512
"""In flight; more are told RESOURCE_EXHAUSTED at once."""
_CODES: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
logger = logging.getLogger(__name__)
Context = Any
"""grpc.aio.ServicerContext, which has no types."""


class HttpCalls:
    """Calls products at the address where Serve listens."""

    def __init__(self, session: aiohttp.ClientSession, address: str, project: Project) -> None:
        self._session = session
        self._addresses = {name: address + product.route for name, product in project.products.items()}

    async def __call__(self, product: str, action: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Raises Problem."""
        method = "POST" if action == "predict" else "GET"
        sent = dict(headers) | ({"Content-Type": "application/json"} if body else {})
        try:
            async with self._session.request(
                method, f"{self._addresses[product]}/{action}", headers=sent, data=body or None, allow_redirects=False
            ) as response:
                return Reply(response.status, dict(response.headers), await response.read())
        except TimeoutError as error:
            raise Problem(504, "Gateway Timeout", f"{product} did not answer within {CALL_SECONDS:.0f} s.") from error
        except aiohttp.ClientError as error:
            detail = f"The endpoint of {product} cannot be reached."
            raise Problem(503, "Service Unavailable", detail, headers={"Retry-After": "1"}) from error


class InferenceServicer:
    """The service's methods, from a message's bytes to a message: what does not parse is the caller's error."""

    def __init__(self, service: InferenceService) -> None:
        self._service = service

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        methods = {
            "ServerLive": (pb2.ServerLiveRequest, self.server_live),
            "ServerReady": (pb2.ServerReadyRequest, self.server_ready),
            "ServerMetadata": (pb2.ServerMetadataRequest, self.server_metadata),
            "ModelReady": (pb2.ModelReadyRequest, self.model_ready),
            "ModelMetadata": (pb2.ModelMetadataRequest, self.model_metadata),
            "ModelInfer": (pb2.ModelInferRequest, self.model_infer),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                _edge(kind, answer), response_serializer=lambda message: message.SerializeToString()
            )
            for name, (kind, answer) in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def server_live(self, _: pb2.ServerLiveRequest, __: Mapping[str, str]) -> pb2.ServerLiveResponse:
        """This process answers."""
        return pb2.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb2.ServerReadyRequest, __: Mapping[str, str]) -> pb2.ServerReadyResponse:
        """Every product answers."""
        return pb2.ServerReadyResponse(ready=await self._service.server_is_ready())

    async def server_metadata(self, _: pb2.ServerMetadataRequest, __: Mapping[str, str]) -> pb2.ServerMetadataResponse:
        """What this server is."""
        return pb2.ServerMetadataResponse(name=SERVER_NAME, version=SERVER_VERSION)

    async def model_ready(self, asked: pb2.ModelReadyRequest, headers: Mapping[str, str]) -> pb2.ModelReadyResponse:
        """Whether a product answers."""
        ready = await self._service.model_is_ready(asked.name, asked.version or None, headers)
        return pb2.ModelReadyResponse(ready=ready)

    async def model_metadata(
        self, asked: pb2.ModelMetadataRequest, headers: Mapping[str, str]
    ) -> pb2.ModelMetadataResponse:
        """A product's tensors, and the version that is served."""
        found = await self._service.metadata(asked.name, asked.version or None, headers)
        return pb2.ModelMetadataResponse(
            name=found.name,
            versions=found.versions,
            platform=found.platform,
            inputs=map(_tensor_metadata, found.inputs),
            outputs=map(_tensor_metadata, found.outputs),
        )

    async def model_infer(self, asked: pb2.ModelInferRequest, headers: Mapping[str, str]) -> pb2.ModelInferResponse:
        """Predictions."""
        request = read_infer_request(asked)
        answer = await self._service.infer(asked.model_name, asked.model_version or None, headers, request)
        return infer_message(answer, raw=bool(asked.raw_input_contents))


def build_server(service: InferenceService, port: int) -> tuple[grpc.aio.Server, int]:
    """The server on loopback, not started yet, and its port; port 0 takes a free one."""
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", MAX_BODY_BYTES), ("grpc.so_reuseport", 0)],
        maximum_concurrent_rpcs=MOST_CALLS,
    )
    server.add_generic_rpc_handlers((InferenceServicer(service).handler(),))
    return server, server.add_insecure_port(f"127.0.0.1:{port}")


async def serve_forever(project: Project, environment: Environment) -> None:
    """Serve until SIGTERM or SIGINT; then let the calls in flight finish."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
    connector = aiohttp.TCPConnector(limit=MOST_CALLS)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        calls = HttpCalls(session, f"http://127.0.0.1:{environment.ports.serve}", project)
        server, port = build_server(InferenceService(project, calls), environment.ports.grpc)
        await server.start()
        logger.info("%s answers at 127.0.0.1:%s", SERVICE, port)
        await stopped.wait()
        await server.stop(GRACE_SECONDS)


def _edge(kind: type[Any], answer: Callable[[Any, Mapping[str, str]], Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A method of the server: its caller's metadata, deadline and errors."""

    async def method(content: bytes, context: Context) -> Any:
        try:
            headers = _headers(context.invocation_metadata())
            async with asyncio.timeout(context.time_remaining()):
                return await answer(parse(kind, content), headers)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "The caller's deadline has passed.")
        except TensorError as error:
            await _refuse(context, unprocessable(error))
        except Problem as problem:
            await _refuse(context, problem)
        except Exception:
            # The edge of the server: a bug is logged with its trace, and the caller learns no more than that.
            logger.exception("%s failed", kind.DESCRIPTOR.name)
            await context.abort(grpc.StatusCode.INTERNAL, "The request could not be answered; see the log.")

    return method


async def _refuse(context: Context, problem: Problem) -> NoReturn:
    trailing = tuple((name.lower(), value) for name, value in problem.headers.items())
    await context.abort(_CODES.get(problem.status, grpc.StatusCode.INTERNAL), problem.detail, trailing)
    raise AssertionError("abort raises")


def _headers(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def _tensor_metadata(tensor: TensorMetadata) -> pb2.ModelMetadataResponse.TensorMetadata:
    return pb2.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)


def main() -> None:
    """Serve the environment that MLWAY_ENVIRONMENT names."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve_forever(load_project(), load_environment()))


if __name__ == "__main__":
    main()
