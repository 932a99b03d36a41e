"""How images become the body of a request: raw, multipart, or as the Open Inference Protocol has it."""

import base64
import json
import struct
from collections.abc import Callable, Mapping, Sequence

import httpx

Encoded = tuple[dict[str, str], bytes]  # headers and body

_MULTIPART = {"content-type": "multipart/form-data; boundary=2f6c1f0e9b7d4a53"}  # the same each time

FORMS = "raw, multipart:FIELD, v2-binary:INPUT or v2-json:INPUT"


def encode(form: str, images: Sequence[bytes], deadline_ms: float | None = None) -> Encoded:
    """The headers and body of one request with these encoded images, in a form of FORMS.

    `raw` carries one image. A deadline goes into the header `X-Deadline-Ms`, in a v2 form into the parameter `timeout`
    (microseconds). Raises ValueError for an unknown form.
    """
    kind, _, name = form.partition(":")
    if kind not in _ENCODERS or (kind != "raw" and not name):
        raise ValueError(f"form {form!r} is not one of {FORMS}")
    headers, body = _ENCODERS[kind](name, images, deadline_ms)
    if deadline_ms and not kind.startswith("v2"):
        headers["x-deadline-ms"] = f"{deadline_ms:g}"
    return headers, body


def _raw(_: str, images: Sequence[bytes], __: float | None) -> Encoded:
    (image,) = images
    return {"content-type": "application/octet-stream"}, image


def _multipart(field: str, images: Sequence[bytes], _: float | None) -> Encoded:
    files = [(field, (f"{i}", image, "application/octet-stream")) for i, image in enumerate(images)]
    request = httpx.Request("POST", "http://localhost", files=files, headers=_MULTIPART)
    return dict(_MULTIPART), request.read()


def _v2_binary(name: str, images: Sequence[bytes], deadline_ms: float | None) -> Encoded:
    """Binary tensor data extension: a JSON head, then each element as its length (uint32, little-endian) and bytes."""
    data = b"".join(struct.pack("<I", len(image)) + image for image in images)
    tensor = {"parameters": {"binary_data_size": len(data)}}
    head = _v2_head(name, images, tensor, deadline_ms)
    return {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}, head + data


def _v2_json(name: str, images: Sequence[bytes], deadline_ms: float | None) -> Encoded:
    """Bytes in base64, as MLServer's content type of that name."""
    data = [base64.b64encode(image).decode() for image in images]
    tensor = {"parameters": {"content_type": "base64"}, "data": data}
    return {"content-type": "application/json"}, _v2_head(name, images, tensor, deadline_ms)


def _v2_head(name: str, images: Sequence[bytes], tensor: Mapping[str, object], deadline_ms: float | None) -> bytes:
    head: dict[str, object] = {"inputs": [{"name": name, "shape": [len(images), 1], "datatype": "BYTES", **tensor}]}
    if deadline_ms:
        head["parameters"] = {"timeout": round(deadline_ms * 1000)}
    return json.dumps(head).encode()


_ENCODERS: dict[str, Callable[[str, Sequence[bytes], float | None], Encoded]] = {
    "raw": _raw,
    "multipart": _multipart,
    "v2-binary": _v2_binary,
    "v2-json": _v2_json,
}
