"""Body of a request for inference -> what is asked."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from service.api.json_text import parse_json
from service.api.mistaken import refuse_mistakes
from service.api.v2.names import IMAGE_BYTES, IMAGES, INPUTS, PROBABILITIES
from service.api.v2.number_list import NumberList, cut_out
from service.api.v2.schemas import InferRequest, InputTensor, Parameters
from service.api.v2.tensors import Bytes, read_encoded, read_pixels
from service.arrays import FEATURES, LOGITS, PixelBatch
from service.errors import MalformedRequest
from service.scheduling.ticket import Priority
from service.settings import LONGEST_DEADLINE_MS

_MICROSECONDS = 1e-6
# What the JSON of a request may hold at most, besides a tensor's numbers.
_MOST = {b"{": 1_000, b":": 10_000, b"[": 10_000, b",": 10_000, b"\\": 1_000_000}
_TYPES = dict.fromkeys(("model_type", "dict_type"), "must be an object") | {"list_type": "must be a list"}
_NUMBERS = "\0numbers"  # in the place of a tensor's
_MOST_ENTRIES = 64  # besides data: errors in a million entries would be a million errors
_INSTEAD = "binary needs Inference-Header-Content-Length, of 0 if it is an image alone"
_OF_CLASSES = (LOGITS, PROBABILITIES)
_LONGEST_TIMEOUT = LONGEST_DEADLINE_MS * 1000  # microseconds


@dataclass(frozen=True, slots=True)
class Output:
    """One output to answer with; `classes` asks for so many of the best as strings."""

    name: str
    binary: bool
    classes: int | None = None


@dataclass(frozen=True, slots=True)
class Inference:
    """A request for inference that can be answered."""

    images: PixelBatch | list[bytes]  # or encoded
    outputs: list[Output]
    id: str | None = None
    timeout: float | None = None  # seconds
    priority: Priority | None = None


def parse(body: bytes, json_length: int | None, side: int, outputs: Collection[str] = _OF_CLASSES) -> Inference:
    """Read a body whose first `json_length` bytes are JSON, or all of it if None.

    0 means Triton's raw binary request: the body is a tensor, here one encoded image. `side` is the model's image size,
    `outputs` are those that it has.

    Raises MalformedRequest, or UnsupportedImage for an image that is known to be something else.
    """
    if json_length == 0:
        if not body:
            raise MalformedRequest("the body is empty; send an image", reason="empty_body")
        refuse_mistakes(body)
        return Inference([body], [Output(name, binary=True) for name in _unasked(outputs)])
    if json_length is not None and json_length > len(body):
        raise MalformedRequest("Inference-Header-Content-Length exceeds the body", reason="header_length")
    asked = _read_json(body if json_length is None else body[:json_length])
    binary = _split(asked, memoryview(body)[len(body) if json_length is None else json_length :])
    return understood(asked, binary, side, outputs)


def understood(asked: InferRequest, binary: Mapping[str, Bytes], side: int, outputs: Collection[str]) -> Inference:
    """What is asked with inputs that are checked, where `binary` has the bytes of those without `data`; see `parse`."""
    parameters = asked.parameters
    if parameters.get("sequence_id"):
        raise MalformedRequest("sequences are not supported: every image is on its own", reason="sequence")
    return Inference(
        images=_images(asked.inputs, binary, side),
        outputs=_outputs(asked, outputs),
        id=asked.id,
        timeout=_timeout(parameters),
        priority=_priority(parameters),
    )


def validated(asked: Any) -> InferRequest:
    """A request as its schema has it; raises MalformedRequest."""
    try:
        return InferRequest.model_validate(asked)
    except ValidationError as errors:
        first, *_ = errors.errors(include_url=False, include_context=False, include_input=False)
        where = ".".join(map(str, first["loc"]))[:100] or "the body"
        told = _TYPES.get(first["type"], first["msg"])
        raise MalformedRequest(f"{where}: {told}", reason="json") from None


def _read_json(text: bytes) -> InferRequest:
    rest, numbers = cut_out(text, json.dumps(_NUMBERS).encode())
    asked = parse_json(rest, _MOST, _INSTEAD)
    if numbers and not _put_back(asked, numbers):
        asked = parse_json(text, _MOST, _INSTEAD)
    if any(len(part) > _MOST_ENTRIES for part in _envelope(asked)):
        raise MalformedRequest(f"a list or object has more than {_MOST_ENTRIES} entries", reason="json")
    return validated(asked)


def _put_back(asked: Any, numbers: NumberList) -> bool:
    """Whether the numbers belong to an input."""
    inputs = asked.get("inputs") if isinstance(asked, dict) else None
    for tensor in inputs if isinstance(inputs, list) else []:
        if isinstance(tensor, dict) and tensor.get("data") == _NUMBERS:
            tensor["data"] = numbers
            return True
    return False


def _envelope(part: Any) -> Iterator[list[Any] | dict[str, Any]]:
    """All of a request's lists and objects but the tensors' data, outermost first."""
    if isinstance(part, (list, dict)):
        yield part
        for name, value in part.items() if isinstance(part, dict) else enumerate(part):
            if name != "data":
                yield from _envelope(value)


def check_inputs(inputs: list[InputTensor]) -> None:
    """Raise MalformedRequest unless there is one input, which models have."""
    _check_names("input", [tensor.name for tensor in inputs], INPUTS)
    if len(inputs) > 1:
        raise MalformedRequest(f"send one of the inputs {' and '.join(INPUTS)}, not both", reason="inputs")
    for tensor in inputs:
        _refuse_shared_memory(tensor.parameters)


def _split(asked: InferRequest, rest: memoryview) -> dict[str, memoryview]:
    """What follows the JSON, by the input that it belongs to: in their order, and nothing is left over."""
    check_inputs(asked.inputs)
    parts = {}
    for tensor in asked.inputs:
        if "binary_data_size" not in tensor.parameters:
            continue
        size = tensor.parameters["binary_data_size"]
        if type(size) is not int or not 0 <= size <= len(rest):
            raise MalformedRequest(
                f"input '{tensor.name}' has a binary_data_size beyond the {len(rest)} bytes that follow the JSON",
                reason="binary_data_size",
            )
        if tensor.data is not None:
            raise MalformedRequest(f"input '{tensor.name}' has data and binary_data_size", reason="binary_data_size")
        parts[tensor.name], rest = rest[:size], rest[size:]
    if rest:
        raise MalformedRequest(f"unexpected additional input data: {len(rest)} bytes", reason="binary_data_size")
    return parts


def _images(tensors: list[InputTensor], binary: Mapping[str, Bytes], side: int) -> PixelBatch | list[bytes]:
    (tensor,) = tensors
    if tensor.name == IMAGES:
        return read_pixels(tensor, binary.get(IMAGES), side)
    images = read_encoded(tensor, binary.get(IMAGE_BYTES))
    for number, image in enumerate(images):
        refuse_mistakes(image, f"image {number}")
    return images


def _unasked(outputs: Collection[str]) -> list[str]:
    """What a request gets that names no output: features only if there is nothing else."""
    return [name for name in outputs if name != FEATURES] or list(outputs)


def _outputs(asked: InferRequest, known: Collection[str]) -> list[Output]:
    as_binary = _flag(asked.parameters, "binary_data_output", default=False)
    if not asked.outputs:
        return [Output(name, as_binary) for name in _unasked(known)]
    _check_names("output", [output.name for output in asked.outputs], known)
    outputs = []
    for output in asked.outputs:
        _refuse_shared_memory(output.parameters)
        classes = output.parameters.get("classification")
        if classes is not None and (type(classes) is not int or classes < 1):
            raise MalformedRequest("classification must be a positive integer", reason="parameter")
        if classes is not None and output.name == FEATURES:
            raise MalformedRequest("classification is of classes, which features are not", reason="parameter")
        outputs.append(Output(output.name, _flag(output.parameters, "binary_data", default=as_binary), classes))
    return outputs


def _check_names(kind: str, names: list[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise MalformedRequest(
                f"unknown {kind} {name[:64]!r}; the model's are {', '.join(known)}", reason=f"{kind}s"
            )
    if len(set(names)) < len(names):
        raise MalformedRequest(f"an {kind} is named twice", reason=f"{kind}s")


def _refuse_shared_memory(parameters: Parameters) -> None:
    if any(name.startswith("shared_memory_") for name in parameters):
        raise MalformedRequest("shared memory is not supported", reason="shared_memory")


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise MalformedRequest(f"{name} must be true or false", reason="parameter")
    return value


def _timeout(parameters: Parameters) -> float | None:
    """Seconds; 0 asks for the default, as in Triton."""
    value = parameters.get("timeout", 0)
    if type(value) is not int or not 0 <= value <= _LONGEST_TIMEOUT:
        raise MalformedRequest(f"timeout must be microseconds from 0 to {_LONGEST_TIMEOUT}", reason="parameter")
    return value * _MICROSECONDS or None


def _priority(parameters: Parameters) -> Priority | None:
    """1 is the highest, which is interactive work; whatever is lower yields to it. 0 asks for the default."""
    value = parameters.get("priority", 0)
    if type(value) is not int or value < 0:
        raise MalformedRequest("priority must be an integer from 0", reason="parameter")
    return None if value == 0 else "interactive" if value == 1 else "bulk"
