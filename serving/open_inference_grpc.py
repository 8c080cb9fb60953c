"""Open Inference Protocol V2 over gRPC: its messages to requests, and answers to messages.

Tensors come as typed contents or raw bytes; the answer has the form of the request. FP16 comes raw only.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from serving.open_inference import (
    DATATYPES,
    Datatype,
    InferAnswer,
    InferRequest,
    Tensor,
    TensorError,
    check_shape,
    require_datatype,
)
from serving.proto import open_inference_pb2 as pb2

_LENGTH = struct.Struct("<I")
_CONTENTS = tuple(pb2.InferTensorContents.DESCRIPTOR.fields_by_name)


def parse(kind: type[Any], content: bytes) -> Any:
    """A message of this kind. Raises TensorError where the bytes are none."""
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise TensorError("", f"The message is not a {kind.DESCRIPTOR.full_name}.", "") from error


def read_infer_request(message: pb2.ModelInferRequest) -> InferRequest:
    """The request in a message. Raises TensorError naming the tensor."""
    if not message.inputs:
        raise TensorError("", "`inputs` is empty.")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise TensorError("", f"There are {len(raw)} raw_input_contents for {len(message.inputs)} inputs.")
    tensors = [
        _raw_tensor(given, raw[number]) if raw else _typed_tensor(given) for number, given in enumerate(message.inputs)
    ]
    wanted = [output.name for output in message.outputs] or None
    return InferRequest(tensors, wanted, message.id)


def infer_message(answer: InferAnswer, *, raw: bool) -> pb2.ModelInferResponse:
    """An answer's message."""
    message = pb2.ModelInferResponse(model_name=answer.model_name, model_version=answer.model_version, id=answer.id)
    for name, text in answer.parameters.items():
        message.parameters[name].string_param = text
    for tensor in answer.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        _fill(output.contents, message.raw_output_contents, tensor, raw=raw)
    return message


def infer_request_message(model: str, tensors: Sequence[Tensor], *, raw: bool) -> pb2.ModelInferRequest:
    """What a client sends for these inputs."""
    message = pb2.ModelInferRequest(model_name=model)
    for tensor in tensors:
        given = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        _fill(given.contents, message.raw_input_contents, tensor, raw=raw)
    return message


def _fill(contents: pb2.InferTensorContents, raws: Any, tensor: Tensor, *, raw: bool) -> None:
    kind = DATATYPES[tensor.datatype]
    if kind.kind == "text":
        texts = [value.encode() for value in tensor.values]
        if raw:
            raws.append(b"".join(_LENGTH.pack(len(text)) + text for text in texts))
        else:
            contents.bytes_contents.extend(texts)
    elif raw:
        raws.append(np.array(tensor.values, dtype=kind.numpy).tobytes())
    else:
        getattr(contents, kind.contents).extend(tensor.values)


def _typed_tensor(given: pb2.ModelInferRequest.InferInputTensor) -> Tensor:
    kind = require_datatype(given.name, given.datatype)
    filled = [name for name in _CONTENTS if len(getattr(given.contents, name))]
    if not kind.contents:
        raise TensorError(given.name, f"{given.datatype} comes in raw_input_contents only")
    if any(name != kind.contents for name in filled):
        raise TensorError(
            given.name, f"its datatype {given.datatype} comes in {kind.contents}, not {', '.join(filled)}"
        )
    values = getattr(given.contents, kind.contents)
    check_shape(given.name, given.shape, len(values))
    if kind.kind == "text":
        return _tensor(given, [_text(given.name, number, text) for number, text in enumerate(values)])
    if kind.kind == "integer":
        for number, value in enumerate(values):
            if not kind.least <= value <= kind.most:
                raise TensorError(given.name, f"element {number} is not of its datatype {given.datatype}")
    return _tensor(given, list(values))


def _raw_tensor(given: pb2.ModelInferRequest.InferInputTensor, raw: bytes) -> Tensor:
    kind = require_datatype(given.name, given.datatype)
    if any(len(getattr(given.contents, name)) for name in _CONTENTS):
        raise TensorError(given.name, "it has contents beside raw_input_contents: use one of them")
    if kind.kind == "text":
        texts = _raw_texts(given.name, raw)
        check_shape(given.name, given.shape, len(texts))
        return _tensor(given, texts)
    return _tensor(given, _raw_numbers(given, kind, raw))


def _raw_numbers(given: pb2.ModelInferRequest.InferInputTensor, kind: Datatype, raw: bytes) -> list[Any]:
    count, rest = divmod(len(raw), np.dtype(kind.numpy).itemsize)
    if rest:
        raise TensorError(given.name, f"its {len(raw)} raw bytes are no whole number of {given.datatype}")
    check_shape(given.name, given.shape, count)
    values: list[Any] = np.frombuffer(raw, kind.numpy).tolist()
    if kind.kind != "boolean":
        return values
    if raw.strip(b"\x00\x01"):
        raise TensorError(given.name, "a raw BOOL is a byte of 0 or 1")
    return [value == 1 for value in values]


def _raw_texts(name: str, raw: bytes) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(raw):
        start = at + _LENGTH.size
        if start > len(raw) or (end := start + _LENGTH.unpack_from(raw, at)[0]) > len(raw):
            raise TensorError(name, f"element {len(texts)} of its raw bytes is longer than what is left of them")
        texts.append(_text(name, len(texts), raw[start:end]))
        at = end
    return texts


def _text(name: str, number: int, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise TensorError(name, f"element {number} is not UTF-8") from error


def _tensor(given: pb2.ModelInferRequest.InferInputTensor, values: list[Any]) -> Tensor:
    return Tensor(given.name, given.datatype, tuple(given.shape), values)
