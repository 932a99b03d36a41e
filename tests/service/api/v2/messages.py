"""Requests for inference, and how to read their answers."""

import json
import struct

import httpx
import numpy as np

from tests.doubles import SIDE, level_pixels

INFER = "/v2/models/echo/infer"


def pixels(*levels: int, **fields: object) -> dict[str, object]:
    """A request in JSON for images of these levels."""
    data = [level_pixels(level).tolist() for level in levels]
    shape = [len(levels), SIDE, SIDE, 3]
    return {"inputs": [{"name": "images", "datatype": "UINT8", "shape": shape, "data": data}], **fields}


def files(*images: bytes) -> tuple[bytes, dict[str, str]]:
    """A binary request for encoded images, and its headers."""
    data = b"".join(struct.pack("<I", len(image)) + image for image in images)
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [len(images)]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]}).encode()
    return head + data, {"inference-header-content-length": str(len(head))}


def levels(response: httpx.Response) -> list[int]:
    """The images' levels, as the logits of a JSON answer say."""
    assert response.status_code == 200, response.text
    logits, _ = response.json()["outputs"]
    assert (logits["name"], logits["datatype"]) == ("logits", "FP32")
    return [int(level) for level in np.reshape(logits["data"], logits["shape"]).argmax(axis=1)]
