"""Tensors to columns and back, and how what is wrong with a tensor is named."""

import json
import math
import string
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from protocol_support import PRODUCT, ROW, protocol_product, row_columns

from serving.open_inference import (
    DATATYPES,
    InferRequest,
    ProductTensors,
    Tensor,
    TensorError,
    instances_body,
)
from serving.open_inference_grpc import infer_message, infer_request_message, parse
from serving.open_inference_grpc import read_infer_request as read_message
from serving.open_inference_json import infer_body, read_infer_request, tensor_object
from serving.proto import open_inference_pb2 as pb2

TENSORS = ProductTensors(protocol_product())
_TYPES = {
    "string": st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    "timestamp": st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
}


@st.composite
def columns(draw: st.DrawFn) -> dict[str, list[Any]]:
    rows = draw(st.integers(1, 5))
    return {
        name: draw(st.lists(st.none() | _TYPES[kind], min_size=rows, max_size=rows))
        for name, kind in TENSORS.fields.items()
    }


def body(*tensors: Any, **members: Any) -> bytes:
    return json.dumps({"inputs": list(tensors)} | members).encode()


def by_json(request: bytes) -> dict[str, list[Any]]:
    return TENSORS.columns(read_infer_request(request))


def changed(which: str, /, **members: Any) -> bytes:
    """A request of one row in which a tensor's members are other ones."""
    tensors = [json.loads(json.dumps(tensor_object(tensor))) for tensor in TENSORS.tensors(row_columns())]
    return body(*(tensor | members if tensor["name"] == which else tensor for tensor in tensors))


def bits(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Values so that 0.0 and -0.0, or 1 and True, differ."""
    return {name: [repr(value) for value in values] for name, values in found.items()}


@settings(deadline=None)
@given(columns())
def test_columns_come_back_from_json_as_they_were(sent: dict[str, list[Any]]) -> None:
    request = body(*(tensor_object(tensor) for tensor in TENSORS.tensors(sent)))
    assert bits(by_json(request)) == bits(sent)


@pytest.mark.parametrize("raw", [False, True])
@settings(deadline=None)
@given(sent=columns())
def test_columns_come_back_from_messages_as_they_were(raw: bool, sent: dict[str, list[Any]]) -> None:
    content = infer_request_message(PRODUCT, TENSORS.tensors(sent), raw=raw).SerializeToString()
    message = parse(pb2.ModelInferRequest, content)
    assert bits(TENSORS.columns(read_message(message))) == bits(sent)


def test_the_endpoint_is_asked_with_its_own_json() -> None:
    assert json.loads(instances_body(row_columns({}, {"tailnum": None}))) == {
        "instances": [ROW, ROW | {"tailnum": None}]
    }


def test_a_tensor_may_have_a_second_dimension_of_one_nested_or_not() -> None:
    for data in ([[7], [8]], [7, 8]):
        tensors = [tensor_object(tensor) for tensor in TENSORS.tensors(row_columns({}, {}))]
        flight = {"name": "flight", "shape": [2, 1], "datatype": "INT64", "data": data}
        assert by_json(body(*(flight if one["name"] == "flight" else one for one in tensors)))["flight"] == [7, 8]


@pytest.mark.parametrize("datatype", [name for name, kind in DATATYPES.items() if kind.kind == "integer"])
def test_every_integer_type_is_taken_to_its_limits(datatype: str) -> None:
    kind = DATATYPES[datatype]
    for value in (kind.least, min(kind.most, 2**63 - 1)):
        assert by_json(changed("flight", datatype=datatype, data=[value]))["flight"] == [value]
    with pytest.raises(TensorError, match="'flight'"):
        by_json(changed("flight", datatype=datatype, data=[kind.most + 1]))


def test_a_narrow_float_is_the_number_that_its_type_holds() -> None:
    assert by_json(changed("fare", datatype="FP32", data=[0.1]))["fare"] == [float(np.float32(0.1))]
    assert by_json(changed("fare", datatype="INT64", data=[2**53]))["fare"] == [float(2**53)]


@pytest.mark.parametrize(
    ("name", "members", "message"),
    [
        ("flight", {"datatype": "FP64"}, "'flight': its datatype is FP64; use INT64"),
        ("flight", {"datatype": "INT128"}, "'flight': there is no datatype 'INT128'"),
        ("flight", {"datatype": "BYTES", "data": ["1016"]}, "'flight': its datatype is BYTES"),
        ("flight", {"data": ["1016"]}, "'flight': element 0 is not of its datatype INT64"),
        ("flight", {"data": [True]}, "'flight': element 0 is not of its datatype"),
        ("flight", {"data": [None]}, "a null is told by the tensor flight.is_null"),
        ("flight", {"data": [1.5]}, "'flight': element 0"),
        ("flight", {"data": 7}, "'flight': `data` must be a list"),
        ("flight", {"data": [[[7]]]}, "'flight': element 0"),
        ("flight", {"data": [7, 8]}, r"'flight': its shape \[1\] does not fit its 2 elements"),
        ("flight", {"shape": [2]}, r"'flight': its shape \[2\] does not fit its 1 elements"),
        ("flight", {"shape": [], "data": [7]}, r"'flight': its shape is \[\]; use \[N\] or \[N, 1\]"),
        ("flight", {"shape": [1, 1, 1]}, r"use \[N\] or \[N, 1\]"),
        ("flight", {"shape": [1, 2], "data": [7, 8]}, r"use \[N\] or \[N, 1\]"),
        ("flight", {"shape": [2**62, 2**62]}, "does not fit its 1 elements"),
        ("flight", {"shape": [-1]}, "does not fit"),
        ("flight", {"shape": [1] * 5000}, "does not fit"),
        ("flight", {"shape": ["1"]}, "`shape` must be a list of whole numbers"),
        ("flight", {"shape": [0], "data": []}, r"'flight': its shape is \[0\]"),
        ("flight", {"shape": [2], "data": [7, 8]}, r"'flight': its shape is \[2\]; 'carrier' has 1 rows"),
        ("flight", {"shape": [5000], "data": [7] * 5000}, "use 1 to 1000 rows"),
        ("flight", {"name": "colour"}, "'colour': no input is called so. Known: carrier, flight"),
        ("flight", {"name": "carrier"}, "'carrier': it is given twice"),
        ("flight", {"name": "flight.is_null", "datatype": "BOOL", "data": [True]}, "Inputs are missing: flight"),
        ("flight", {"name": "a\nb" * 100}, r"'a\\nba\\nb.*\.\.\.'"),
        ("flight", {"name": 7}, "`name` must be a string"),
        ("flight", {"colour": 7}, "unknown member 'colour'"),
        ("flight", {"parameters": 7}, "`parameters` must be an object"),
        ("flight", {"parameters": {"binary_data_size": 8}}, "binary tensor data extension is not supported"),
        ("fare", {"datatype": "FP32", "data": [1e300]}, "'fare': element 0 is not of its datatype FP32"),
        ("fare", {"datatype": "INT64", "data": [2**53 + 1]}, "'fare': element 0 is not a finite number"),
        ("is_codeshare", {"data": [1]}, "'is_codeshare': element 0"),
        ("carrier", {"data": [7]}, "'carrier': element 0"),
    ],
)
def test_a_wrong_tensor_is_named_with_what_is_wrong(name: str, members: dict[str, Any], message: str) -> None:
    with pytest.raises(TensorError, match=message):
        by_json(changed(name, **members))


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 9999),
        *(b'{"inputs": []}', b'{"inputs": {}}', b'{"inputs": [7]}'),
        *(body(id=7), body(outputs=7), body(7, outputs=[]), body(parameters=[])),
    ],
)
def test_a_body_that_is_no_request_is_a_tensor_error(content: bytes) -> None:
    with pytest.raises(TensorError):
        read_infer_request(content)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_lowercase, max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)
_MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from([*ROW, "flight.is_null", "colour"]) | _JSON,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | _JSON,
        "datatype": st.sampled_from([*DATATYPES]) | _JSON,
        "data": st.lists(_JSON, max_size=3) | _JSON,
        "parameters": _JSON,
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_MEMBERS, max_size=3), st.dictionaries(st.sampled_from(["id", "outputs", "parameters"]), _JSON))
def test_no_body_does_anything_but_convert_or_name_what_is_wrong(inputs: list[Any], members: dict[str, Any]) -> None:
    defaults = {"shape": [1], "datatype": "INT64", "data": [1], "name": "flight"}
    problems = []
    for sent in (inputs, [defaults | one for one in inputs]):
        try:
            by_json(body(*sent, **members))
        except TensorError as error:
            problems.append(str(error))
    assert all(map(str.isprintable, problems))


def message_of(
    datatype: str = "INT64", shape: tuple[int, ...] = (1,), contents: dict[str, Any] | None = None, raw: Any = ()
) -> pb2.ModelInferRequest:
    """A request with one tensor."""
    given = pb2.ModelInferRequest.InferInputTensor(name="flight", datatype=datatype, shape=shape)
    if contents is not None:
        given.contents.CopyFrom(pb2.InferTensorContents(**contents))
    return pb2.ModelInferRequest(model_name=PRODUCT, inputs=[given], raw_input_contents=raw)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"contents": {"fp64_contents": [7.0]}}, "'flight': its datatype INT64 comes in int64_contents, not fp64"),
        ({"contents": {"int64_contents": [7], "int_contents": [7]}}, "not int_contents, int64_contents"),
        ({"contents": {}}, r"'flight': its shape \[1\] does not fit its 0 elements"),
        ({"datatype": "INT8", "contents": {"int_contents": [200]}}, "'flight': element 0 is not of its datatype INT8"),
        ({"datatype": "FP16"}, "FP16 comes in raw_input_contents only"),
        ({"datatype": "FP8"}, "there is no datatype 'FP8'"),
        ({"datatype": "BYTES", "contents": {"bytes_contents": [b"\xff"]}}, "element 0 is not UTF-8"),
        ({"raw": [b"1234"]}, "'flight': its 4 raw bytes are no whole number of INT64"),
        ({"raw": [b"12345678"] * 2}, "There are 2 raw_input_contents for 1 inputs"),
        ({"raw": [b"12345678"], "contents": {"int64_contents": [7]}}, "contents beside raw_input_contents"),
        ({"raw": [b"12345678" * 2]}, r"'flight': its shape \[1\] does not fit its 2 elements"),
        ({"raw": [b"12345678"], "shape": [2**62, 2**62]}, "does not fit its 1 elements"),
        ({"datatype": "BOOL", "raw": [b"\x02"]}, "a raw BOOL is a byte of 0 or 1"),
        ({"datatype": "BYTES", "raw": [b"\xff\xff\xff\xff"]}, "element 0 of its raw bytes is longer than what is left"),
        ({"datatype": "BYTES", "raw": [b"\x01"]}, "element 0 of its raw bytes is longer than what is left"),
    ],
)
def test_a_wrong_message_is_named_with_what_is_wrong(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TensorError, match=message):
        read_message(message_of(**fields))


def test_a_number_that_is_none_is_refused_and_not_taken_for_a_null() -> None:
    for value in (math.nan, math.inf):
        tensors = [
            Tensor(one.name, one.datatype, one.shape, [value]) if one.name == "fare" else one
            for one in TENSORS.tensors(row_columns())
        ]
        for raw in (False, True):
            with pytest.raises(TensorError, match=r"'fare': element 0 is not a finite number.*fare\.is_null"):
                TENSORS.columns(read_message(infer_request_message(PRODUCT, tensors, raw=raw)))


ANSWER = {
    "model": {"name": PRODUCT, "version": 3},
    "decision": "abc",
    "degraded": ["redis"],
    "predictions": [{"score": 0.1, "missing": ["aircraft", "route"]}, {"score": 5e-324}],
}


def test_an_answer_has_every_output_with_its_bits() -> None:
    answer = TENSORS.answer(PRODUCT, InferRequest([], id="42"), ANSWER)
    assert json.loads(infer_body(answer)) == {
        "model_name": PRODUCT,
        "model_version": "3",
        "id": "42",
        "parameters": {"degraded": "redis"},
        "outputs": [
            {"name": "score", "shape": [2], "datatype": "FP64", "data": [0.1, 5e-324]},
            {"name": "missing", "shape": [2], "datatype": "BYTES", "data": ["aircraft,route", ""]},
            {"name": "decision_id", "shape": [2], "datatype": "BYTES", "data": ["abc", "abc"]},
        ],
    }


def test_an_answer_is_raw_where_the_request_was() -> None:
    answer = TENSORS.answer(PRODUCT, InferRequest([], outputs=["missing", "score"], id="42"), ANSWER)
    raw, typed = infer_message(answer, raw=True), infer_message(answer, raw=False)
    assert [output.name for output in raw.outputs] == ["missing", "score"]
    assert list(raw.raw_output_contents) == [
        b"\x0e\x00\x00\x00aircraft,route\x00\x00\x00\x00",
        struct.pack("<2d", 0.1, 5e-324),
    ]
    assert list(typed.outputs[1].contents.fp64_contents) == [0.1, 5e-324]
    assert typed.parameters["degraded"].string_param == "redis"


def test_outputs_that_are_not_there_or_are_asked_for_twice_are_refused() -> None:
    inputs = TENSORS.tensors(row_columns())
    for wanted, message in ((["colour"], "'colour': no output is called so. Known: score"), (["score"] * 2, "twice")):
        with pytest.raises(TensorError, match=message):
            TENSORS.columns(InferRequest(inputs, outputs=wanted))
