"""A ModelInferRequest -> what is asked, as of a request in JSON."""

from collections.abc import Collection
from typing import Any

from google.protobuf.message import DecodeError

from service.api.v2.names import IMAGE_BYTES
from service.api.v2.request import Inference, check_inputs, understood, validated
from service.api.v2.tensors import Bytes, joined
from service.errors import MalformedRequest
from service.grpc_api.envelope import Envelope, not_a_message
from service.grpc_api.messages import ModelInferRequest

_PIECE = 2**15  # numbers that are read at a time: all at once, millions of them hold the interpreter too long
_CONTENTS = {"UINT8": "uint_contents", "BYTES": "bytes_contents"}


def read_request(envelope: Envelope, side: int, outputs: Collection[str]) -> Inference:
    """What is asked; the outputs are `binary`, which is raw, if the inputs are. `side` and `outputs` are the model's.

    Raises what `service.api.v2.request.parse` does.
    """
    try:
        message = ModelInferRequest.FromString(envelope.head)
    except DecodeError:
        raise not_a_message() from None
    asked = validated(
        {
            "id": message.id or None,
            "parameters": _parameters(message) | {"binary_data_output": bool(envelope.raw)},
            "inputs": [
                {
                    "name": tensor.name,
                    "shape": list(tensor.shape),
                    "datatype": tensor.datatype,
                    "parameters": _parameters(tensor),
                }
                for tensor in message.inputs
            ],
            "outputs": [{"name": output.name, "parameters": _parameters(output)} for output in message.outputs] or None,
        }
    )
    check_inputs(asked.inputs)
    return understood(asked, _binary(message.inputs, envelope.raw), side, outputs)


def _binary(inputs: Any, raw: list[memoryview]) -> dict[str, Bytes]:
    if not raw:
        return {tensor.name: _from_contents(tensor) for tensor in inputs}
    if any(tensor.HasField("contents") for tensor in inputs):
        raise MalformedRequest("there are contents as well as raw_input_contents: send one of them", reason="tensor")
    if len(raw) != len(inputs):
        told = f"there are {len(raw)} raw_input_contents for {len(inputs)} inputs"
        raise MalformedRequest(told, reason="tensor")
    return {tensor.name: data for tensor, data in zip(inputs, raw, strict=True)}


def _from_contents(tensor: Any) -> bytes:
    wanted = _CONTENTS.get(tensor.datatype)
    for field, _ in tensor.contents.ListFields():
        if wanted and field.name != wanted:
            told = f"input '{tensor.name}' has {field.name} where {tensor.datatype} has {wanted}"
            raise MalformedRequest(told, reason="tensor")
    if tensor.name == IMAGE_BYTES:
        return joined(tensor.contents.bytes_contents)
    numbers = tensor.contents.uint_contents
    try:
        return b"".join(bytes(numbers[at : at + _PIECE]) for at in range(0, len(numbers), _PIECE))
    except ValueError:
        told = f"input '{tensor.name}' has elements that are not integers from 0 to 255"
        raise MalformedRequest(told, reason="tensor") from None


def _parameters(message: Any) -> dict[str, Any]:
    """Those that have a value."""
    chosen = {name: parameter.WhichOneof("parameter_choice") for name, parameter in message.parameters.items()}
    return {name: getattr(message.parameters[name], kind) for name, kind in chosen.items() if kind}
