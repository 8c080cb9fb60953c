"""Open Inference Protocol V2 over REST: its JSON bodies to requests, and answers to JSON.

The binary tensor data extension is not supported: an input that says `binary_data_size` is refused, and outputs are
JSON whatever a client would prefer. Other parameters have no meaning here and are ignored, as the protocol allows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from serving.open_inference import (
    Datatype,
    InferAnswer,
    InferRequest,
    Tensor,
    TensorError,
    check_shape,
    require_datatype,
    shown,
)

_MOST_INPUTS = 1000


def read_infer_request(body: bytes) -> InferRequest:
    """The request in a body. Raises TensorError naming the tensor."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise TensorError("", f"The body is not JSON: {error}.", "") from error
    members = _members(content, "", ("inputs",), ("id", "parameters", "outputs"))
    request_id = members.get("id", "")
    if not isinstance(request_id, str):
        raise TensorError("", "`id` must be a string.", "/id")
    _check_parameters(members, "")
    inputs = _list(members["inputs"], "/inputs")
    tensors = [_tensor(given, f"/inputs/{number}") for number, given in enumerate(inputs)]
    if not tensors:
        raise TensorError("", "`inputs` is empty.", "/inputs")
    if "outputs" not in members:
        return InferRequest(tensors, None, request_id)
    wanted = [_output_name(given, f"/outputs/{n}") for n, given in enumerate(_list(members["outputs"], "/outputs"))]
    return InferRequest(tensors, wanted or None, request_id)


def infer_body(answer: InferAnswer) -> bytes:
    """An answer's body."""
    content: dict[str, Any] = {"model_name": answer.model_name, "model_version": answer.model_version}
    if answer.id:
        content["id"] = answer.id
    if answer.parameters:
        content["parameters"] = answer.parameters
    content["outputs"] = [tensor_object(tensor) for tensor in answer.outputs]
    return orjson.dumps(content)


def tensor_object(tensor: Tensor) -> dict[str, Any]:
    """A tensor as JSON has it."""
    return {
        "name": tensor.name,
        "shape": tensor.shape,
        "datatype": tensor.datatype,
        "data": tensor.values,
    }


def _tensor(given: Any, pointer: str) -> Tensor:
    members = _members(given, pointer, ("name", "shape", "datatype", "data"), ("parameters",))
    name, shape, datatype, data = (members[key] for key in ("name", "shape", "datatype", "data"))
    if not isinstance(name, str):
        raise TensorError("", "`name` must be a string.", f"{pointer}/name")
    if not isinstance(datatype, str):
        raise TensorError(name, "`datatype` must be a string", f"{pointer}/datatype")
    if not isinstance(shape, list) or any(type(size) is not int for size in shape):
        raise TensorError(name, "`shape` must be a list of whole numbers", f"{pointer}/shape")
    if not isinstance(data, list):
        raise TensorError(name, "`data` must be a list", f"{pointer}/data")
    _check_parameters(members, pointer)
    kind = require_datatype(name, datatype, f"{pointer}/datatype")
    values = _flattened(name, data, shape, f"{pointer}/data")
    check_shape(name, shape, len(values), f"{pointer}/shape")
    return Tensor(name, datatype, tuple(shape), _elements(name, datatype, kind, values, f"{pointer}/data"))


def _flattened(name: str, data: list[Any], shape: Sequence[int], pointer: str) -> list[Any]:
    """Elements of a tensor whose data may be nested as its shape is: [[1], [2]] for [2, 1]."""
    if len(shape) != 2 or not any(isinstance(part, list) for part in data):
        return data
    for number, part in enumerate(data):
        if not isinstance(part, list) or len(part) != shape[1]:
            raise TensorError(name, f"its data are nested otherwise than its shape, at {number}", f"{pointer}/{number}")
    return [element for part in data for element in part]


def _elements(name: str, datatype: str, kind: Datatype, values: list[Any], pointer: str) -> list[Any]:
    check = {"boolean": _is_boolean, "integer": _is_integer, "number": _is_number, "text": _is_text}[kind.kind]
    for number, value in enumerate(values):
        if not check(value, kind):
            hint = ". Hint: a null is told by the tensor " + name + ".is_null" if value is None else ""
            raise TensorError(name, f"element {number} is not of its datatype {datatype}{hint}", f"{pointer}/{number}")
    if datatype in ("FP16", "FP32"):
        return _rounded(name, datatype, kind, values, pointer)
    return values


def _rounded(name: str, datatype: str, kind: Datatype, values: list[Any], pointer: str) -> list[float]:
    """Decimal numbers as the narrow type holds them: 0.1 as FP32 is 0.10000000149."""
    with np.errstate(over="ignore"):
        narrow: list[float] = np.array(values, np.float64).astype(kind.numpy).astype(np.float64).tolist()
    for number, value in enumerate(narrow):
        if not math.isfinite(value):
            raise TensorError(name, f"element {number} is not of its datatype {datatype}", f"{pointer}/{number}")
    return narrow


def _is_boolean(value: Any, _: Datatype) -> bool:
    return isinstance(value, bool)


def _is_integer(value: Any, kind: Datatype) -> bool:
    return type(value) is int and kind.least <= value <= kind.most


def _is_number(value: Any, _: Datatype) -> bool:
    return type(value) in (int, float)


def _is_text(value: Any, _: Datatype) -> bool:
    return isinstance(value, str)


def _output_name(given: Any, pointer: str) -> str:
    members = _members(given, pointer, ("name",), ("parameters",))
    name = members["name"]
    if not isinstance(name, str):
        raise TensorError("", "`name` must be a string.", f"{pointer}/name")
    _check_parameters(members, pointer)
    return name


def _check_parameters(members: Mapping[str, Any], pointer: str) -> None:
    parameters = members.get("parameters", {})
    if not isinstance(parameters, dict):
        raise TensorError("", "`parameters` must be an object.", f"{pointer}/parameters")
    if "binary_data_size" in parameters:
        raise TensorError(
            "", "The binary tensor data extension is not supported: send `data`.", f"{pointer}/parameters"
        )


def _members(given: Any, pointer: str, needed: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise TensorError("", f"{pointer or 'The body'} must be an object.", pointer)
    if binary := given.get("parameters"):
        _check_parameters({"parameters": binary}, pointer)
    for key in needed:
        if key not in given:
            raise TensorError("", f"{pointer or 'The body'} has no `{key}`.", pointer)
    for key in given:
        if key not in needed and key not in optional:
            known = ", ".join((*needed, *optional))
            raise TensorError(
                "", f"{pointer or 'The body'} has an unknown member {shown(key)}. Known: {known}.", pointer
            )
    return given


def _list(given: Any, pointer: str) -> list[Any]:
    if not isinstance(given, list) or len(given) > _MOST_INPUTS:
        raise TensorError("", f"{pointer} must be a list of at most {_MOST_INPUTS}.", pointer)
    return given
