"""What a model gave -> the outputs that were asked for, as JSON or bytes, compressed if that is accepted."""

import gzip
import zlib

import numpy as np

from service.api.v2.names import PROBABILITIES
from service.api.v2.request import Inference, Output
from service.api.v2.schemas import InferResponse, OutputTensor
from service.api.v2.tensors import write_floats, write_strings
from service.arrays import LOGITS, LogitBatch, Outputs
from service.bundles.manifest import Manifest
from service.lanes.postprocess import softmax

Answer = tuple[bytes, dict[str, str]]  # body and headers
_LONGEST = 2000  # bytes of a header that are looked through
_COMPRESSION_LEVEL = 1  # floats hardly shrink further


def answer(
    inference: Inference, manifest: Manifest, labels: tuple[str, ...] | None, given: Outputs, accepted: str
) -> Answer:
    """The body and its headers; `accepted` is the client's Accept-Encoding."""
    tensors, parts = zip(*(write(output, given, labels) for output in inference.outputs), strict=True)
    head = InferResponse.model_construct(
        model_name=manifest.name, model_version=manifest.version, id=inference.id, outputs=list(tensors)
    )
    text = head.model_dump_json(exclude_none=True).encode()
    headers = {"content-type": "application/json", "vary": "accept-encoding"}
    if any(output.binary for output in inference.outputs):
        headers["content-type"] = "application/octet-stream"
        headers["inference-header-content-length"] = str(len(text))  # before compression
    body = b"".join((text, *parts))
    encoding = _encoding(accepted)
    if encoding == "gzip":
        body = gzip.compress(body, _COMPRESSION_LEVEL, mtime=0)
    elif encoding == "deflate":
        body = zlib.compress(body, _COMPRESSION_LEVEL)
    return body, headers | ({"content-encoding": encoding} if encoding else {})


def write(output: Output, given: Outputs, labels: tuple[str, ...] | None) -> tuple[OutputTensor, bytes]:
    """One output, and its bytes if they are asked for; `given` is what the model gave for all images."""
    if output.name == PROBABILITIES:
        values = np.stack([softmax(row) for row in given[LOGITS]]).astype(np.float32)
    else:
        values = given[output.name]
    if output.classes is None:
        return write_floats(output.name, values, output.binary)
    rows = [_best(row, labels, min(output.classes, values.shape[1])) for row in values]
    return write_strings(output.name, rows, output.binary)


def _best(values: LogitBatch, labels: tuple[str, ...] | None, count: int) -> list[str]:
    """`value:index:label` of the best classes, best first (Triton, docs/protocol/extension_classification.md)."""
    best = np.argsort(-values, kind="stable")[:count]
    return [f"{values[i]:.6f}:{i}" + (f":{labels[i]}" if labels else "") for i in best]


def _encoding(accepted: str) -> str | None:
    """gzip or deflate, if the client accepts it (RFC 9110, section 12.5.3)."""
    named = {}
    for part in accepted[:_LONGEST].lower().split(","):
        name, _, parameter = part.partition(";")
        named[name.strip()] = parameter.replace(" ", "")
    for encoding in ("gzip", "deflate"):
        if encoding in named and named[encoding] not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            return encoding
    return None
