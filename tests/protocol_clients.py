"""The scores of the same rows by each protocol that serving speaks, asked as a client would."""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import httpx
import numpy as np

from configs.products import ModelProduct
from serving.open_inference import ProductTensors, instances_body
from serving.open_inference_grpc import infer_request_message
from serving.open_inference_json import tensor_object
from serving.proto import open_inference_pb2 as pb2


def scores_by_protocol(
    product: ModelProduct, columns: Mapping[str, Sequence[Any]], key: str, *, serve: int, grpc_port: int
) -> dict[str, list[float]]:
    """Protocol to scores; `serve` and `grpc_port` are ports on loopback."""
    headers, tensors = {"authorization": f"Bearer {key}"}, ProductTensors(product).tensors(columns)
    with httpx.Client(base_url=f"http://127.0.0.1:{serve}", headers=headers, timeout=30) as client:
        body = {"content": instances_body(columns), "headers": {"content-type": "application/json"}}
        native = client.post(f"{product.route}/predict", **body).raise_for_status().json()
        v1 = client.post(f"/v1/models/{product.name}:predict", **body).raise_for_status().json()
        inputs = {"inputs": [tensor_object(tensor) for tensor in tensors], "outputs": [{"name": "score"}]}
        v2 = client.post(f"/v2/models/{product.name}/infer", json=inputs).raise_for_status().json()
    return {
        "predict": [prediction["score"] for prediction in native["predictions"]],
        "v1": [prediction["score"] for prediction in v1["predictions"]],
        "v2": v2["outputs"][0]["data"],
        "grpc": list(_infer(product, tensors, headers, grpc_port, raw=False).outputs[0].contents.fp64_contents),
        "grpc raw": np.frombuffer(
            _infer(product, tensors, headers, grpc_port, raw=True).raw_output_contents[0], "<f8"
        ).tolist(),
    }


def _infer(
    product: ModelProduct, tensors: Any, headers: Mapping[str, str], port: int, *, raw: bool
) -> pb2.ModelInferResponse:
    message = infer_request_message(product.name, tensors, raw=raw)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        content = infer(message.SerializeToString(), metadata=tuple(headers.items()), timeout=30)
    return pb2.ModelInferResponse.FromString(content)
