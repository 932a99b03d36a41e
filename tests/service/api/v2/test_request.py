import base64
import gc
import gzip
import json
import struct
from contextlib import suppress

import numpy as np
import pytest
from pydantic_core import from_json

from service.api.v2.request import Inference, Output, parse
from service.errors import MalformedRequest, UnsupportedImage

SIDE = 2
PIXELS = np.arange(2 * SIDE * SIDE * 3, dtype=np.uint8).reshape(2, SIDE, SIDE, 3)
IMAGES = {"name": "images", "datatype": "UINT8", "shape": [2, SIDE, SIDE, 3]}
FILES = {"name": "image_bytes", "datatype": "BYTES", "shape": [2]}
TYPES = "true, false, a number, a string or null"
ELEMENTS = struct.pack("<I", 3) + b"one" + struct.pack("<I", 0)


def message(*inputs: dict[str, object], **fields: object) -> bytes:
    return json.dumps({"inputs": inputs, **fields}).encode()


def binary(body: bytes, *tensors: bytes) -> Inference:
    return parse(b"".join((body, *tensors)), len(body), SIDE)


def sized(tensor: dict[str, object], size: object) -> dict[str, object]:
    return tensor | {"parameters": {"binary_data_size": size}}


@pytest.mark.parametrize("data", [PIXELS.tolist(), PIXELS.ravel().tolist()], ids=["nested", "flat"])
def test_pixels_in_json(data: list[object]) -> None:
    inference = parse(message(IMAGES | {"data": data}), None, SIDE)
    np.testing.assert_array_equal(inference.images, PIXELS)
    assert inference.outputs == [Output(name, binary=False) for name in ("logits", "probabilities")]
    assert (inference.id, inference.timeout, inference.priority) == (None, None, None)


def test_binary_pixels_are_a_view_of_the_body() -> None:
    head = message(sized(IMAGES, PIXELS.nbytes))
    body = head + PIXELS.tobytes()
    inference = parse(body, len(head), SIDE)
    assert isinstance(inference.images, np.ndarray)
    np.testing.assert_array_equal(inference.images, PIXELS)
    assert np.shares_memory(inference.images, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_base64_is_taken_as_at_the_other_door(encode, prefix: str) -> None:  # type: ignore[no-untyped-def]
    image = bytes(range(256))
    data = [prefix + text for text in (encode(image).decode(), encode(image).decode().rstrip("=\n"))]
    assert parse(message(FILES | {"data": data}), None, SIDE).images == [image, image]


def test_what_is_no_image_is_named_with_its_number() -> None:
    data = [base64.b64encode(each).decode() for each in (b"\x89PNG\r\n\x1a\n", b"<html>")]
    with pytest.raises(UnsupportedImage, match="image 1 is an HTML page"):
        parse(message(FILES | {"data": data}), None, SIDE)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_encoded_images(shape: list[int]) -> None:
    assert binary(message(sized(FILES | {"shape": shape}, len(ELEMENTS))), ELEMENTS).images == [b"one", b""]
    data: list[object] = [base64.b64encode(element).decode() for element in (b"one", b"")]
    assert parse(message(FILES | {"shape": shape, "data": data}), None, SIDE).images == [b"one", b""]
    if len(shape) == 2:
        nested = [[element] for element in data]
        assert parse(message(FILES | {"shape": shape, "data": nested}), None, SIDE).images == [b"one", b""]


def test_a_raw_body_is_one_encoded_image_answered_in_binary() -> None:
    assert parse(b"a file", 0, SIDE) == Inference(
        [b"a file"], [Output(name, binary=True) for name in ("logits", "probabilities")]
    )
    with pytest.raises(MalformedRequest, match="empty"):
        parse(b"", 0, SIDE)
    with pytest.raises(UnsupportedImage, match="is JSON"):
        parse(message(FILES), 0, SIDE)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [Output("logits", False), Output("probabilities", False)]),
        ({"outputs": []}, [Output("logits", False), Output("probabilities", False)]),
        (
            {"parameters": {"binary_data_output": True}},
            [Output("logits", True), Output("probabilities", True)],
        ),
        ({"outputs": [{"name": "probabilities"}]}, [Output("probabilities", False)]),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "probabilities", "parameters": {"binary_data": False}}, {"name": "logits"}],
            },
            [Output("probabilities", False), Output("logits", True)],
        ),
        (
            {"outputs": [{"name": "logits", "parameters": {"classification": 3}}]},
            [Output("logits", False, 3)],
        ),
    ],
)
def test_outputs_asked_for(fields: dict[str, object], expected: list[Output]) -> None:
    assert parse(message(IMAGES | {"data": PIXELS.tolist()}, **fields), None, SIDE).outputs == expected


@pytest.mark.parametrize(
    ("parameters", "timeout", "priority"),
    [
        ({"timeout": 250_000, "priority": 1}, 0.25, "interactive"),
        ({"priority": 2, "anything": "else", "top_k": 3}, None, "bulk"),
        ({"priority": 0, "timeout": 0, "sequence_id": 0}, None, None),
    ],
)
def test_timeout_and_priority(parameters: dict[str, object], timeout: float | None, priority: str | None) -> None:
    inference = parse(message(IMAGES | {"data": PIXELS.tolist()}, parameters=parameters, id="42"), None, SIDE)
    assert (inference.timeout, inference.priority, inference.id) == (timeout, priority, "42")


def test_null_is_as_good_as_nothing() -> None:
    plain = message(IMAGES | {"data": PIXELS.tolist()}, outputs=[{"name": "logits"}])
    nulls = {"timeout": None, "priority": None, "sequence_id": None, "binary_data_output": None, "other": None}
    for parameters, of_input, of_output in (
        (None, None, None),
        (nulls, {"binary_data_size": None}, {"classification": None, "binary_data": None}),
    ):
        tensor = IMAGES | {"data": PIXELS.tolist(), "parameters": of_input}
        output = {"name": "logits", "parameters": of_output}
        asked = parse(message(tensor, outputs=[output], parameters=parameters, id=None), None, SIDE)
        expected = parse(plain, None, SIDE)
        np.testing.assert_array_equal(asked.images, expected.images)
        assert (asked.outputs, asked.timeout, asked.priority) == (expected.outputs, None, None)
    assert parse(message(IMAGES | {"data": PIXELS.tolist()}, outputs=None), None, SIDE).outputs == [
        Output(name, binary=False) for name in ("logits", "probabilities")
    ]


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse(b"\xef\xbb\xbf" + message(FILES | {"data": ["", ""]}), None, SIDE).images == [b"", b""]


def parameters(**values: object) -> bytes:
    return message(IMAGES | {"data": PIXELS.tolist()}, parameters=values)


def outputs(*outputs: object) -> bytes:
    return message(IMAGES | {"data": PIXELS.tolist()}, outputs=outputs)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 9000, "recursion limit"),
        (b'{"inputs":' + b"[" * 150 + b"]" * 150 + b"}", "inputs.0: must be an object"),
        (b"[]", "^the body: must be an object$"),
        (b"{}", "inputs: Field required"),
        (b'{"inputs": []}', "at least 1 item"),
        (b'{"inputs": [1]}', "inputs.0"),
        (message({"shape": [1], "datatype": "BYTES"}), "name: Field required"),
        (message(IMAGES | {"data": "text"}), "data that is no list"),
        (message(IMAGES), "neither data"),
        (message(IMAGES | {"data": None}), "neither data"),
        (message(IMAGES | {"data": []}), "0 elements where its shape needs 24"),
        (message(IMAGES | {"data": [0] * 23}), "23 elements where its shape needs 24"),
        (message(IMAGES | {"data": [256] * 24}), "integers from 0 to 255"),
        (message(IMAGES | {"data": [-1] * 24}), "integers from 0 to 255"),
        (message(IMAGES | {"data": [1.0] * 24}), "integers from 0 to 255"),
        (message(IMAGES | {"data": ["1"] * 24}), "integers from 0 to 255"),
        (message(IMAGES | {"data": [1] * 23 + [True]}), "integers from 0 to 255"),
        (message(IMAGES | {"data": [[[[0, 0, False]] * 2] * 2] * 2}), "integers from 0 to 255"),
        (message(IMAGES | {"data": [None] * 24}), "integers from 0 to 255"),
        (message(IMAGES | {"data": [10**100] * 24}), "integers from 0 to 255"),
        (message(IMAGES | {"data": [float("nan")] * 24}), "not JSON"),
        (message(IMAGES | {"data": [float("inf")] * 24}), "not JSON"),
        (message(IMAGES | {"data": [7]}).replace(b"[7]", b"[" + b"9" * 5000 + b"]"), "integers from 0 to 255"),
        (message(IMAGES | {"data": PIXELS.tolist()[:1]}), "nested otherwise"),
        (message(IMAGES | {"data": [[0] * 12, [0] * 12]}), "nested otherwise"),
        (message(IMAGES | {"data": [[[[0] * 3] * 2] * 2, [[[0] * 3] * 2, [0]]]}), "nested otherwise"),
        (message(IMAGES | {"data": [[[[[0]] * 3] * 2] * 2] * 2}), "nested otherwise"),
        (message(IMAGES | {"data": [[[[["0"]] * 3] * 2] * 2] * 2}), "integers from 0 to 255"),
        (message(IMAGES | {"datatype": "FP32"}), "must be of datatype UINT8"),
        (message(IMAGES | {"shape": [2, 2, 2, 4]}), r"shape \[N, 2, 2, 3\]"),
        (message(IMAGES | {"shape": [24]}), r"shape \[N, 2, 2, 3\]"),
        (message(IMAGES | {"shape": []}), r"shape \[N, 2, 2, 3\]"),
        (message(IMAGES | {"shape": [0, 2, 2, 3]}), "N from 1 to 64"),
        (message(IMAGES | {"shape": [65, 2, 2, 3]}), "N from 1 to 64"),
        (message(IMAGES | {"shape": [2**62, 2, 2, 3]}), "N from 1 to 64"),
        (message(IMAGES | {"shape": [10**100, 2, 2, 3]}), "N from 1 to 64"),
        (message(IMAGES | {"shape": [-1, 2, 2, 3]}), "greater than or equal to 0"),
        (message(IMAGES | {"shape": [2.0, 2, 2, 3]}), "valid integer"),
        (message(IMAGES | {"shape": [True, 2, 2, 3]}), "valid integer"),
        (message(IMAGES | {"shape": [1] * 9}), "at most 8 items"),
        (message(IMAGES | {"name": "pixels"}), "unknown input 'pixels'; the model's are images, image_bytes"),
        (message(IMAGES, IMAGES), "named twice"),
        (message(IMAGES, FILES), "not both"),
        (message(FILES | {"data": ["%%%", ""]}), "element 0 that is not base64: it has characters"),
        (message(FILES | {"data": ["", 2]}), "element 1 that is no string of base64"),
        (message(FILES | {"data": ["", None]}), "element 1 that is no string of base64"),
        (message(FILES | {"data": ["é", ""]}), "element 0 that is not base64"),
        (message(FILES | {"data": ["", "data:image/png,x"]}), "element 1 that is not base64: the data: URL"),
        (message(FILES | {"data": [""]}), "1 elements where its shape needs 2"),
        (message(FILES | {"shape": [2, 2]}), r"shape \[N, 1\]"),
        (message(sized(IMAGES, 24)), "beyond the 0 bytes that follow"),
        (message(IMAGES | {"parameters": {"shared_memory_region": "a"}}), "shared memory"),
        *(
            (message(IMAGES | {"parameters": {"nested": odd}}), f"^inputs.0.parameters.nested: must be {TYPES}$")
            for odd in ({}, [], [1])
        ),
        (parameters(timeout={"ms": 5}), f"^parameters.timeout: must be {TYPES}$"),
        (outputs({"name": "logits", "parameters": {"x": []}}), f"^outputs.0.parameters.x: must be {TYPES}$"),
        (message(IMAGES | {"parameters": "none"}), "^inputs.0.parameters: must be an object$"),
        (message(IMAGES, parameters=[]), "^parameters: must be an object$"),
        (message(IMAGES, id=7), "^id: Input should be a valid string$"),
        (message(IMAGES, outputs={}), "^outputs: must be a list$"),
        (message(IMAGES, outputs=["logits"]), "^outputs.0: must be an object$"),
        (b'{"inputs": null}', "^inputs: must be a list$"),
        (message(IMAGES | {"shape": None}), "^inputs.0.shape: must be a list$"),
        (message(IMAGES | {"datatype": None}), "^inputs.0.datatype: Input should be a valid string$"),
        (gzip.compress(message(IMAGES)), "gzip data without Content-Encoding"),
        (b"\x89PNG\r\n\x1a\n", "Inference-Header-Content-Length, of 0 if it is an image alone"),
        (outputs({"name": "logit"}), "unknown output 'logit'; the model's are logits, probabilities"),
        (outputs({"name": "logits"}, {"name": "logits"}), "named twice"),
        (outputs({"name": "logits", "parameters": {"classification": 0}}), "classification"),
        (outputs({"name": "logits", "parameters": {"classification": True}}), "classification"),
        (outputs({"name": "logits", "parameters": {"binary_data": 1}}), "binary_data must be"),
        (outputs({"name": "logits", "parameters": {"shared_memory_region": "a"}}), "shared memory"),
        (parameters(binary_data_output="yes"), "binary_data_output must be"),
        (parameters(timeout=-1), "timeout must be"),
        (parameters(timeout=10**100), "timeout must be"),
        (parameters(timeout=0.5), "timeout must be"),
        (parameters(timeout=True), "timeout must be"),
        (parameters(priority=-1), "priority must be"),
        (parameters(priority="high"), "priority must be"),
        (parameters(sequence_id=7), "sequences"),
        (parameters(sequence_id="seven"), "sequences"),
    ],
)
def test_what_cannot_be_understood_is_named(body: bytes, says: str) -> None:
    with pytest.raises(MalformedRequest, match=says) as raised:
        parse(body, None, SIDE)
    assert len(raised.value.message) < 300


@pytest.mark.parametrize(
    ("body", "tensor", "says"),
    [
        (message(sized(IMAGES, 24)), b"\0" * 23, "beyond the 23 bytes"),
        (message(sized(IMAGES, 24)), b"\0" * 25, "unexpected additional input data: 1 bytes"),
        (message(sized(IMAGES, 23)), b"\0" * 23, "23 bytes where its shape needs 24"),
        (message(sized(IMAGES, -1)), b"\0" * 24, "binary_data_size"),
        (message(sized(IMAGES, 24.0)), b"\0" * 24, "binary_data_size"),
        (message(sized(IMAGES, True)), b"\0" * 24, "binary_data_size"),
        (message(sized(IMAGES, "24")), b"\0" * 24, "binary_data_size"),
        (message(sized(IMAGES, 2**64)), b"\0" * 24, "binary_data_size"),
        (message(sized(IMAGES, 24) | {"data": []}), b"\0" * 24, "data and binary_data_size"),
        (message(IMAGES | {"data": [0] * 24}), b"\0", "unexpected additional input data"),
        (message(sized(FILES, 0)), b"", "does not have the 2 elements"),
        (message(sized(FILES, 3)), b"\0" * 3, "within the length"),
        (message(sized(FILES, 7)), struct.pack("<I", 4) + b"one", "within an element"),
        (message(sized(FILES, 4)), b"\xff" * 4, "within an element"),
        (message(sized(FILES, 7)), struct.pack("<I", 3) + b"one", "does not have the 2 elements"),
        (message(sized(FILES, len(ELEMENTS) + 4)), ELEMENTS + b"\0" * 4, "does not have the 2 elements"),
    ],
)
def test_binary_tensors_that_do_not_fit_are_named(body: bytes, tensor: bytes, says: str) -> None:
    with pytest.raises(MalformedRequest, match=says):
        binary(body, tensor)


def test_a_json_part_longer_than_the_body_is_refused() -> None:
    with pytest.raises(MalformedRequest, match="exceeds the body"):
        parse(b"{}", 3, SIDE)


@pytest.mark.parametrize(
    "text",
    [
        b'{"inputs":[' + b",".join([b"{}"] * 2_000) + b"]}",
        b'{"inputs":[' + b",".join([b"[]"] * 500_001) + b"]}",
        b'{"inputs":[' + b",".join([b"1"] * 100_000) + b"]}",
        b'{"inputs":[],"outputs":[' + b",".join([b"{}"] * 100) + b"]}",
        b'{"inputs":[],"parameters":{' + b",".join(b'"%d":1' % i for i in range(20_000)) + b"}}",
        b'{"inputs":[{"name":"images","parameters":{' + b",".join(b'"%d":1' % i for i in range(100)) + b"}}]}",
    ],
    ids=["objects", "lists", "numbers", "outputs", "parameters", "parameters of an input"],
)
def test_json_of_more_parts_than_any_request_needs_is_refused_in_one_sentence(text: bytes) -> None:
    with pytest.raises(MalformedRequest) as refused:
        parse(text, None, SIDE)
    assert refused.value.reason == "json"
    assert len(refused.value.message) < 130


@pytest.mark.parametrize("body", [message(IMAGES | {"data": PIXELS.tolist()}), b"{"])
def test_no_garbage_is_collected_among_a_tensors_lists_and_all_of_it_thereafter(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    collecting: list[bool] = []

    def noted(*arguments: object, **options: object) -> object:
        collecting.append(gc.isenabled())
        return from_json(*arguments, **options)

    monkeypatch.setattr("service.api.json_text.from_json", noted)
    with suppress(MalformedRequest):
        parse(body, None, SIDE)
    assert (collecting, gc.isenabled()) == ([False], True)
