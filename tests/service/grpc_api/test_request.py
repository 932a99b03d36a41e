from typing import Any

import numpy as np
import pytest

from service.errors import MalformedRequest

pytest.importorskip("grpc", reason="mixer-serving[grpc] is not installed")

from service.api.v2.request import Inference, Output
from service.grpc_api.envelope import open_envelope
from service.grpc_api.messages import ModelInferRequest
from service.grpc_api.request import read_request
from tests.doubles import SIDE, level_pixels, level_png
from tests.service.grpc_api.calls import files, pixels

OUTPUTS = ("logits", "probabilities", "features")


def read(message: Any) -> Inference:
    return read_request(open_envelope(message.SerializeToString()), SIDE, OUTPUTS)


def test_contents_and_raw_tensors_are_the_same_images() -> None:
    typed, raw = pixels(3, 250), pixels(3, 250)
    raw.inputs[0].ClearField("contents")
    raw.raw_input_contents.append(np.stack([level_pixels(3), level_pixels(250)]).tobytes())
    np.testing.assert_array_equal(read(typed).images, read(raw).images)
    assert [output.binary for output in read(typed).outputs] == [False, False]
    assert [output.binary for output in read(raw).outputs] == [True, True]
    one, two = level_png(1), level_png(2)
    message = ModelInferRequest()
    tensor = message.inputs.add(name="image_bytes", datatype="BYTES", shape=[2, 1])
    tensor.contents.bytes_contents.extend([one, two])
    assert read(message).images == read(files(one, two)).images == [one, two]


def test_many_numbers_are_read_whole() -> None:
    message = ModelInferRequest()
    tensor = message.inputs.add(name="images", datatype="UINT8", shape=[2, 224, 224, 3])
    numbers = np.random.default_rng(0).integers(0, 256, 2 * 224 * 224 * 3)
    tensor.contents.uint_contents.extend(numbers.tolist())
    images = read_request(open_envelope(message.SerializeToString()), 224, OUTPUTS).images
    np.testing.assert_array_equal(np.ravel(np.asarray(images)), numbers)


def test_parameters_of_every_type() -> None:
    message = pixels(1, id="mine")
    message.parameters["timeout"].uint64_param = 2_000_000
    message.parameters["priority"].int64_param = 2
    message.parameters["another"].string_param = "is nobody's"
    message.parameters["empty"].SetInParent()
    message.outputs.add(name="logits").parameters["classification"].int64_param = 3
    asked = read(message)
    assert (asked.id, asked.timeout, asked.priority) == ("mine", 2.0, "bulk")
    assert asked.outputs == [Output("logits", binary=False, classes=3)]


def of(change: str, value: object) -> Any:
    message = pixels(1)
    match change:
        case "number":
            message.inputs[0].contents.uint_contents[5] = value
        case "contents":
            message.inputs[0].contents.ClearField("uint_contents")
            getattr(message.inputs[0].contents, str(value)).extend([1] * SIDE * SIDE * 3)
        case "parameter":
            message.parameters["timeout"].double_param = value
        case "shape":
            message.inputs[0].shape[:] = value
        case "raw":
            message.raw_input_contents.extend(value)
        case "only raw":
            message.inputs[0].ClearField("contents")
            message.raw_input_contents.extend(value)
        case "output":
            message.outputs.add(name=str(value))
        case "fewer":
            message.inputs[0].contents.uint_contents.pop()
        case "none":
            del message.inputs[:]
        case "memory":
            message.inputs[0].parameters["shared_memory_region"].string_param = str(value)
    return message


@pytest.mark.parametrize(
    ("change", "value", "told"),
    [
        ("number", 256, "integers from 0 to 255"),
        ("contents", "int_contents", "has int_contents where UINT8 has uint_contents"),
        ("contents", "fp32_contents", "has fp32_contents"),
        ("parameter", 1.5, "timeout must be"),
        ("shape", [1, SIDE, SIDE, -3], "shape.3"),
        ("shape", [1] * 9, "shape"),
        ("shape", [], "must have shape"),
        ("shape", [65, SIDE, SIDE, 3], "N from 1 to 64"),
        ("raw", [b"abc"], "contents as well as raw_input_contents"),
        ("only raw", [b"abc"], "has 3 bytes where its shape needs 48"),
        ("only raw", [bytes(48), bytes(48)], "2 raw_input_contents for 1 inputs"),
        ("output", "nope", "unknown output 'nope'"),
        ("fewer", None, "has 47 bytes where its shape needs 48"),
        ("none", None, "inputs"),
        ("memory", "region", "shared memory"),
    ],
)
def test_what_is_wrong_is_said(change: str, value: object, told: str) -> None:
    with pytest.raises(MalformedRequest, match=told):
        read(of(change, value))


def test_a_head_that_is_no_message_is_refused() -> None:
    with pytest.raises(MalformedRequest, match="not a ModelInferRequest"):
        read_request(open_envelope(b"\x1a\x01\xff"), SIDE, OUTPUTS)  # an id that is no text
