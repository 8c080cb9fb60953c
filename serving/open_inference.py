"""Open Inference Protocol V2: named tensors to columns of a product's request fields, and answers back to tensors.

Pure conversion, the same for REST and gRPC. How tensors are written in JSON and in protobuf messages is in
open_inference_json.py and open_inference_grpc.py; who calls the product is in inference_service.py.

Each request field is an input tensor of shape [N] or [N, 1]: strings and timestamps (ISO 8601 with an offset) as BYTES,
numbers as INT64 or FP64, or a narrower type that holds the same number, booleans as BOOL. The protocol has no null: a
BOOL tensor `FIELD.is_null` may stand beside a field, and where it is true the field's element does not count.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from configs.errors import MlwayError
from configs.products import ModelProduct

Kind = Literal["boolean", "integer", "number", "text"]
IS_NULL = ".is_null"


@dataclass(frozen=True, slots=True)
class Datatype:
    """An element type of the protocol: what it holds, and NumPy's little-endian form of it (none of BYTES)."""

    kind: Kind
    numpy: str
    contents: str
    """Field of gRPC's InferTensorContents; FP16 has none."""
    least: int = 0
    most: int = 0


DATATYPES: Mapping[str, Datatype] = {
    "BOOL": Datatype("boolean", "u1", "bool_contents"),
    "BYTES": Datatype("text", "", "bytes_contents"),
    "FP16": Datatype("number", "<f2", ""),
    "FP32": Datatype("number", "<f4", "fp32_contents"),
    "FP64": Datatype("number", "<f8", "fp64_contents"),
    "INT8": Datatype("integer", "i1", "int_contents", -(2**7), 2**7 - 1),
    "INT16": Datatype("integer", "<i2", "int_contents", -(2**15), 2**15 - 1),
    "INT32": Datatype("integer", "<i4", "int_contents", -(2**31), 2**31 - 1),
    "INT64": Datatype("integer", "<i8", "int64_contents", -(2**63), 2**63 - 1),
    "UINT8": Datatype("integer", "u1", "uint_contents", 0, 2**8 - 1),
    "UINT16": Datatype("integer", "<u2", "uint_contents", 0, 2**16 - 1),
    "UINT32": Datatype("integer", "<u4", "uint_contents", 0, 2**32 - 1),
    "UINT64": Datatype("integer", "<u8", "uint64_contents", 0, 2**64 - 1),
}
_INTEGERS = ("INT64", "INT8", "INT16", "INT32", "UINT8", "UINT16", "UINT32", "UINT64")
_ACCEPTED: Mapping[str, tuple[str, ...]] = {
    "string": ("BYTES",),
    "timestamp": ("BYTES",),
    "boolean": ("BOOL",),
    "int64": _INTEGERS,
    "float64": ("FP64", "FP32", "FP16", *_INTEGERS),
}
"""Datatypes of each field type; the first is the one that metadata names."""


class TensorError(MlwayError):
    """A tensor, or what is asked of it, is not as the product's metadata says."""

    def __init__(self, tensor: str, problem: str, pointer: str = "/inputs") -> None:
        self.tensor, self.pointer = tensor, pointer
        super().__init__(f"Tensor {shown(tensor)}: {problem}" if tensor else problem)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor; `values` are its elements in row-major order, as Python's own bool, int, float or str."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a client asks: inputs, and the names of the outputs that it wants; None is all of them."""

    inputs: Sequence[Tensor]
    outputs: Sequence[str] | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """What a client gets. `model_version` is a registered version's number, or `baseline`."""

    model_name: str
    model_version: str
    id: str
    outputs: list[Tensor]
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """What a model's input or output looks like; it has as many elements as the request has rows."""

    name: str
    datatype: str
    shape: tuple[int, ...] = (-1,)


def shown(name: str) -> str:
    """A client's text as it may appear in messages and logs: quoted, without control characters, and short."""
    return ascii(name if len(name) <= 80 else name[:77] + "...")


class ProductTensors:
    """The tensors of one product."""

    def __init__(self, product: ModelProduct) -> None:
        self.fields = product.population.request
        """Request field to its type."""
        self._most = product.endpoint.max_instances
        self._known = {name for field in self.fields for name in (field, field + IS_NULL)}
        self.inputs = tuple(TensorMetadata(name, _ACCEPTED[kind][0]) for name, kind in self.fields.items())
        bounds = ("lower", "upper") if product.interval is not None else ()
        self.outputs = (
            *(TensorMetadata(name, "FP64") for name in ("score", *bounds)),
            *(TensorMetadata(name, "BYTES") for name in ("missing", "decision_id")),
        )

    def columns(self, request: InferRequest) -> dict[str, list[Any]]:
        """Each request field's values as the endpoint's JSON has them; None where `FIELD.is_null` is true.

        Raises TensorError.
        """
        self._check_outputs(request.outputs)
        given = self._by_name(request.inputs)
        if absent := [name for name in self.fields if name not in given]:
            raise TensorError("", f"Inputs are missing: {', '.join(absent)}.")
        self._check_shapes(request.inputs)
        columns = {}
        for name, kind in self.fields.items():
            values = self._values(given[name], kind)
            nulls = given.get(name + IS_NULL)
            if nulls is not None:
                self._require_datatype(nulls, ("BOOL",))
                values = [None if null else value for value, null in zip(values, nulls.values, strict=True)]
            columns[name] = values
        return columns

    def tensors(self, columns: Mapping[str, Sequence[Any]]) -> list[Tensor]:
        """What a client sends for these columns: the inverse of `columns`."""
        found = []
        for metadata in self.inputs:
            values = columns[metadata.name]
            placeholder = _PLACEHOLDERS[DATATYPES[metadata.datatype].kind]
            filled = [placeholder if value is None else value for value in values]
            found.append(Tensor(metadata.name, metadata.datatype, (len(values),), filled))
            if None in values:
                nulls = [value is None for value in values]
                found.append(Tensor(metadata.name + IS_NULL, "BOOL", (len(values),), nulls))
        return found

    def answer(self, model: str, request: InferRequest, content: Mapping[str, Any]) -> InferAnswer:
        """The endpoint's answer as tensors: those that were asked for, in that order."""
        predictions = content["predictions"]
        rows = (len(predictions),)
        outputs = {
            one.name: Tensor(one.name, one.datatype, rows, _output(one.name, content, predictions))
            for one in self.outputs
        }
        wanted = outputs if request.outputs is None else request.outputs
        degraded = content.get("degraded")
        return InferAnswer(
            model,
            str(content["model"].get("version", "baseline")),
            request.id,
            [outputs[name] for name in wanted],
            {"degraded": ",".join(degraded)} if degraded else {},
        )

    def _check_outputs(self, wanted: Sequence[str] | None) -> None:
        known = [metadata.name for metadata in self.outputs]
        for number, name in enumerate(wanted or ()):
            if name not in known:
                raise TensorError(name, f"no output is called so. Known: {', '.join(known)}.", f"/outputs/{number}")
        if wanted is not None and len(set(wanted)) != len(wanted):
            raise TensorError("", "An output is asked for twice.", "/outputs")

    def _by_name(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for number, tensor in enumerate(inputs):
            pointer = f"/inputs/{number}/name"
            if tensor.name not in self._known:
                raise TensorError(tensor.name, f"no input is called so. Known: {', '.join(self.fields)}.", pointer)
            if tensor.name in found:
                raise TensorError(tensor.name, "it is given twice", pointer)
            found[tensor.name] = tensor
        return found

    def _check_shapes(self, inputs: Sequence[Tensor]) -> None:
        first = inputs[0]
        for number, tensor in enumerate(inputs):
            pointer = f"/inputs/{number}/shape"
            its = f"its shape is {shape_text(tensor.shape)}"
            if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ((), (1,)):
                raise TensorError(tensor.name, f"{its}; use [N] or [N, 1]", pointer)
            if not 1 <= tensor.shape[0] <= self._most:
                raise TensorError(tensor.name, f"{its}; use 1 to {self._most} rows", pointer)
            if tensor.shape[0] != first.shape[0]:
                raise TensorError(tensor.name, f"{its}; {shown(first.name)} has {first.shape[0]} rows", pointer)

    def _values(self, tensor: Tensor, kind: str) -> list[Any]:
        self._require_datatype(tensor, _ACCEPTED[kind])
        if kind == "float64":
            return [_exact_float(tensor, number, value) for number, value in enumerate(tensor.values)]
        if tensor.datatype == "UINT64":
            for number, value in enumerate(tensor.values):
                if value > DATATYPES["INT64"].most:
                    raise TensorError(tensor.name, f"element {number} does not fit into INT64")
        return list(tensor.values)

    def _require_datatype(self, tensor: Tensor, accepted: Sequence[str]) -> None:
        if tensor.datatype not in accepted:
            raise TensorError(tensor.name, f"its datatype is {tensor.datatype}; use {', or '.join(accepted)}")


_PLACEHOLDERS: Mapping[Kind, Any] = {"boolean": False, "integer": 0, "number": 0.0, "text": ""}


def check_shape(name: str, shape: Sequence[int], elements: int, pointer: str = "/inputs") -> None:
    """Nothing is ever allocated by a shape alone. Raises TensorError where it does not say how many elements came."""
    if any(size < 0 for size in shape) or math.prod(shape[:8]) != elements or len(shape) > 8:
        raise TensorError(name, f"its shape {shape_text(shape)} does not fit its {elements} elements", pointer)


def require_datatype(name: str, datatype: str, pointer: str = "/inputs") -> Datatype:
    """The datatype of this name. Raises TensorError."""
    found = DATATYPES.get(datatype)
    if found is None:
        raise TensorError(name, f"there is no datatype {shown(datatype)}. Known: {', '.join(DATATYPES)}.", pointer)
    return found


def shape_text(shape: Sequence[int]) -> str:
    """A shape for a message."""
    return f"[{', '.join(map(str, shape[:8]))}{', ...' if len(shape) > 8 else ''}]"


def instances_body(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Columns as the body of the product's own `/predict`."""
    names = tuple(columns)
    rows = zip(*columns.values(), strict=True)
    return orjson.dumps({"instances": [dict(zip(names, row, strict=True)) for row in rows]})


def _exact_float(tensor: Tensor, number: int, value: float) -> float:
    try:
        exact = float(value)
    except OverflowError:
        exact = math.inf
    if exact != value or not math.isfinite(exact):
        raise TensorError(
            tensor.name,
            f"element {number} is not a finite number that FP64 holds exactly. "
            f"Hint: a null is told by the tensor {tensor.name}{IS_NULL}",
        )
    return exact


def _output(name: str, content: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> list[Any]:
    if name == "decision_id":
        return [content["decision"]] * len(predictions)
    if name == "missing":
        return [",".join(prediction.get("missing", ())) for prediction in predictions]
    return [prediction[name] for prediction in predictions]
