"""Every way in which an image reaches the service."""

import base64
import gzip
import json
import struct
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.load.forms import encode


class Request(NamedTuple):
    """What to POST, and whether the image of a digit goes along."""

    path: str
    headers: dict[str, str]
    body: bytes
    beside_a_digit: bool = False


_CLASSIFY = "/v1/classify"
_MODEL, _SIDE = "digits", 32  # the embedded one
_INFER = f"/v2/models/{_MODEL}/infer"
GRPC = "/inference.GRPCInferenceService/ModelInfer"


def _of(path: str, form: str) -> Callable[[bytes, bytes], Request]:
    return lambda image, _: Request(path, *encode(form, [image]))


def _gzipped(image: bytes, _: bytes) -> Request:
    return Request(_CLASSIFY, {"content-encoding": "gzip"}, gzip.compress(image, 1, mtime=0))


def _gzipped_form(image: bytes, _: bytes) -> Request:
    headers, body = encode("multipart:image", [image])
    return Request(_CLASSIFY, {**headers, "content-encoding": "gzip"}, gzip.compress(body, 1, mtime=0))


def _beside_a_digit(image: bytes, digit: bytes) -> Request:
    return Request(_CLASSIFY, *encode("multipart:image", [image, digit]), beside_a_digit=True)


def _json(image: bytes, _: bytes) -> Request:
    body = json.dumps({"image": base64.b64encode(image).decode()}).encode()
    return Request(_CLASSIFY, {"content-type": "application/json"}, body)


def _pixels(image: bytes, _: bytes) -> Request:
    """The file's own bytes as the pixels of an image, again and again."""
    pixels = _SIDE * _SIDE * 3
    data = (image * (1 + pixels // len(image)))[:pixels]
    tensor = {"name": "images", "shape": [1, _SIDE, _SIDE, 3], "datatype": "UINT8"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}]}).encode()
    return Request(_INFER, {"inference-header-content-length": str(len(head))}, head + data)


def _grpc(*, raw: bool) -> Callable[[bytes, bytes], Request]:
    def door(image: bytes, _: bytes) -> Request:
        from service.grpc_api.messages import ModelInferRequest  # noqa: PLC0415 - an optional dependency

        message = ModelInferRequest(model_name=_MODEL)
        tensor = message.inputs.add(name="image_bytes", datatype="BYTES", shape=[1])
        if raw:
            message.raw_input_contents.append(struct.pack("<I", len(image)) + image)
        else:
            tensor.contents.bytes_contents.append(image)
        return Request(GRPC, {}, message.SerializeToString(deterministic=True))

    return door


# A request with this image, and where there is room for another with that of a digit.
DOORS: dict[str, Callable[[bytes, bytes], Request]] = {
    "raw": _of(_CLASSIFY, "raw"),
    "gzip": _gzipped,
    "form": _of(_CLASSIFY, "multipart:image"),
    "form, beside a digit": _beside_a_digit,
    "form, gzip": _gzipped_form,
    "JSON": _json,
    "v2, binary": _of(_INFER, "v2-binary:image_bytes"),
    "v2, JSON": _of(_INFER, "v2-json:image_bytes"),
    "v2, pixels": _pixels,
    "gRPC, raw": _grpc(raw=True),
    "gRPC, contents": _grpc(raw=False),
}
