"""What the KServe V1 and Open Inference protocols offer, over REST (gateway.py) as over gRPC (grpc_server.py).

A product's own endpoint does everything that matters: access, features, scores, the log. It is reached through one
callable, so that a replica's handle, an HTTP connection and a test fit alike.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from configs.load import Project
from configs.products import ModelProduct
from serving.open_inference import (
    InferAnswer,
    InferRequest,
    ProductTensors,
    TensorError,
    TensorMetadata,
    instances_body,
    shown,
)
from serving.problems import Problem

PASSED_ON = ("authorization", "x-api-key", "traceparent", "tracestate")
"""Headers of a caller that the product's endpoint gets."""
SERVER_NAME, SERVER_VERSION = "mlway", "0.1.0"
PLATFORM = "mlway_lightgbm"
MAX_BODY_BYTES = 4 * 2**20
"""Of a request in another protocol; what is left of it in the product's own has the limit of the product's file."""
_OK, _NOT_FOUND = 200, 404
_RETRIED = ("retry-after", "www-authenticate")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a product's endpoint has answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


ProductCall = Callable[[str, str, Mapping[str, str], bytes], Awaitable[Reply]]
"""Product, action (`predict`, `model` or `ready`), headers, body. Raises Problem where the product is not reached."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """A model as the protocol describes it."""

    name: str
    versions: Sequence[str]
    inputs: Sequence[TensorMetadata]
    outputs: Sequence[TensorMetadata]
    platform: str = field(default=PLATFORM)


class InferenceService:
    """The products of a project, by the protocols' words."""

    def __init__(self, project: Project, call: ProductCall) -> None:
        self._call = call
        self._products: Mapping[str, ModelProduct] = project.products
        self._tensors = {name: ProductTensors(product) for name, product in project.products.items()}

    @property
    def names(self) -> list[str]:
        """Every model."""
        return list(self._products)

    async def predict(self, model: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """KServe V1: the endpoint's own body, and its own answer. Raises Problem."""
        self._require(model)
        return (await self._ask(model, "predict", headers, body)).body

    async def infer(
        self, model: str, version: str | None, headers: Mapping[str, str], request: InferRequest
    ) -> InferAnswer:
        """Open Inference Protocol. Raises Problem and TensorError."""
        tensors = self._require(model)
        columns = tensors.columns(request)
        if version is not None:
            await self._require_version(model, version, headers)
        try:
            reply = await self._ask(model, "predict", headers, instances_body(columns))
        except Problem as problem:
            raise _about_tensors(problem, request) from problem
        answer = tensors.answer(model, request, orjson.loads(reply.body))
        if version not in (None, answer.model_version):  # released in between
            raise _no_version(model, version, answer.model_version)
        return answer

    async def metadata(self, model: str, version: str | None, headers: Mapping[str, str]) -> ModelMetadata:
        """The model with the version that is served. Raises Problem."""
        tensors = self._require(model)
        served = await self._served_version(model, headers)
        if version not in (None, served):
            raise _no_version(model, version, served)
        return ModelMetadata(model, (served,), tensors.inputs, tensors.outputs)

    async def model_is_ready(self, model: str, version: str | None, headers: Mapping[str, str]) -> bool:
        """Whether the endpoint answers. Raises Problem where there is no such model or version."""
        self._require(model)
        reply = await self._reply(model, "ready", headers)
        if reply.status == _OK and version is not None:
            await self._require_version(model, version, headers)
        return reply.status == _OK

    async def server_is_ready(self) -> bool:
        """Whether every product's endpoint answers."""
        for name in self._products:
            if (await self._reply(name, "ready", {})).status != _OK:
                return False
        return True

    def _require(self, model: str) -> ProductTensors:
        if model not in self._tensors:
            known = ", ".join(sorted(self._products))
            raise Problem(_NOT_FOUND, "Not Found", f"No model is called {shown(model)}. Known: {known}.")
        return self._tensors[model]

    async def _require_version(self, model: str, version: str, headers: Mapping[str, str]) -> None:
        served = await self._served_version(model, headers)
        if version != served:
            raise _no_version(model, version, served)

    async def _served_version(self, model: str, headers: Mapping[str, str]) -> str:
        reply = await self._ask(model, "model", headers, b"")
        return str(orjson.loads(reply.body)["model"].get("version", "baseline"))

    async def _ask(self, model: str, action: str, headers: Mapping[str, str], body: bytes) -> Reply:
        reply = await self._call(model, action, passed_on(headers), body)
        if reply.status != _OK:
            raise _refusal(reply)
        return reply

    async def _reply(self, model: str, action: str, headers: Mapping[str, str]) -> Reply:
        try:
            return await self._call(model, action, passed_on(headers), b"")
        except Problem as problem:
            return Reply(problem.status, problem.headers, problem.body())


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The caller's headers that a product's endpoint gets; `headers` has lower-case names."""
    return {name: headers[name] for name in PASSED_ON if name in headers}


def unprocessable(error: TensorError) -> Problem:
    """A tensor error as an answer."""
    detail = str(error)
    return Problem(422, "Unprocessable Content", detail, [{"pointer": error.pointer, "detail": detail}])


def _no_version(model: str, version: str | None, served: str) -> Problem:
    detail = f"Version {shown(version or '')} of {model} is not served; {served} is."
    return Problem(_NOT_FOUND, "Not Found", detail)


def _refusal(reply: Reply) -> Problem:
    """A product's refusal, passed on. What is no problem document came from a proxy that could not reach it."""
    headers = {name: value for name, value in reply.headers.items() if name.lower() in _RETRIED}
    try:
        content = orjson.loads(reply.body)
        title, detail, errors = content["title"], content["detail"], content.get("errors", ())
    except (orjson.JSONDecodeError, KeyError, TypeError):
        detail = f"The endpoint could not be reached; its proxy answered {reply.status}."
        return Problem(503, "Service Unavailable", detail, headers={"Retry-After": "1"} | headers)
    return Problem(reply.status, title, detail, errors, headers)


def _about_tensors(problem: Problem, request: InferRequest) -> Problem:
    """Pointers into the endpoint's instances become pointers to the tensors' elements."""
    numbers = {tensor.name: number for number, tensor in enumerate(request.inputs)}
    errors = [_about_tensor(error, numbers) for error in problem.errors]
    detail = f"{errors[0]['pointer']}: {errors[0]['detail']}" if errors else problem.detail
    return Problem(problem.status, problem.title, detail, errors, problem.headers)


def _about_tensor(error: Mapping[str, str], numbers: Mapping[str, int]) -> Mapping[str, str]:
    parts = error["pointer"].split("/")
    if len(parts) < 4 or parts[1] != "instances" or parts[3] not in numbers:
        return error
    row, name = parts[2], parts[3]
    detail = f"Tensor {shown(name)}, element {row}: {error['detail']}"
    return {"pointer": f"/inputs/{numbers[name]}/data/{row}", "detail": detail}
