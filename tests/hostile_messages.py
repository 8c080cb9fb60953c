"""Messages of the Open Inference Protocol that nobody means to send, and what a running gRPC server makes of them."""

from collections import Counter
from collections.abc import Mapping

import grpc
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from serving.grpc_server import SERVICE
from serving.open_inference import DATATYPES
from serving.proto import open_inference_pb2 as pb2

_METHODS = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")
_TENSORS = st.fixed_dictionaries(
    {"shape": st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2), max_size=2)},
    optional={
        "name": st.text(max_size=10),
        "datatype": st.sampled_from([*DATATYPES]) | st.text(max_size=5),
        "contents": st.fixed_dictionaries(
            {},
            optional={
                "int64_contents": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2),
                "fp64_contents": st.lists(st.floats(), max_size=2),
                "bytes_contents": st.lists(st.binary(max_size=20) | st.text(max_size=20).map(str.encode), max_size=2),
            },
        ),
    },
)


def send_anything(address: str, good: bytes, metadata: Mapping[str, str], examples: int) -> Counter[str]:
    """How often each code: for random bytes, random bytes put into a good ModelInfer, and tensors changed in it.

    The same messages every time.
    """
    codes: Counter[str] = Counter()
    with grpc.insecure_channel(address) as channel:

        def send(method: str, message: bytes) -> None:
            call = channel.unary_unary(f"/{SERVICE}/{method}")
            try:
                call(message, metadata=tuple(metadata.items()), timeout=30)
                codes["OK"] += 1
            except grpc.RpcError as error:
                codes[error.code().name] += 1

        fixed = settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )

        @fixed
        @given(st.sampled_from(_METHODS), st.binary(max_size=40), st.integers(0, len(good)), st.integers(0, 8))
        def send_bytes(method: str, content: bytes, start: int, removed: int) -> None:
            send(method, content)
            send("ModelInfer", good[:start] + content + good[start + removed :])

        @fixed
        @given(st.integers(0, 5), _TENSORS, st.lists(st.binary(max_size=20), max_size=1))
        def send_tensors(place: int, tensor: dict[str, object], raw: list[bytes]) -> None:
            message = pb2.ModelInferRequest.FromString(good)
            changed = pb2.ModelInferRequest.InferInputTensor(**tensor)
            message.inputs[place % len(message.inputs)].MergeFrom(changed)
            message.raw_input_contents.extend(raw)
            send("ModelInfer", message.SerializeToString())

        send_bytes()
        send_tensors()
    return codes
