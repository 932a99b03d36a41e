import gzip
import json
import zlib

import numpy as np
import pytest

from service.api.v2.request import Inference, Output
from service.api.v2.response import answer
from service.bundles.manifest import Manifest

LOGITS = np.array([[0.5, 2.0, -1.0], [3.0, 3.0, 4.25]], np.float32)
LABELS = ("zero", "one: with a colon", "zwei äöü")
MANIFEST = Manifest.model_construct(name="m", version="3")


def answered(*outputs: Output, labels: tuple[str, ...] | None = LABELS, id: str | None = None) -> tuple[dict, bytes]:
    body, headers = answer(Inference([], list(outputs), id), MANIFEST, labels, {"logits": LOGITS}, "")
    length = int(headers.get("inference-header-content-length", len(body)))
    assert ("inference-header-content-length" in headers) == (headers["content-type"] == "application/octet-stream")
    return json.loads(body[:length]), body[length:]


def test_json() -> None:
    head, rest = answered(Output("logits", False))
    assert head == {
        "model_name": "m",
        "model_version": "3",
        "outputs": [{"name": "logits", "shape": [2, 3], "datatype": "FP32", "data": LOGITS.ravel().tolist()}],
    }
    assert rest == b""


def test_the_id_is_echoed_even_if_it_is_empty() -> None:
    assert answered(Output("logits", False), id="")[0]["id"] == ""


def test_binary_outputs_follow_in_their_order_beside_json_ones() -> None:
    head, rest = answered(Output("probabilities", True), Output("logits", False))
    probabilities, logits = head["outputs"]
    assert probabilities["parameters"] == {"binary_data_size": 24}
    assert "data" not in probabilities
    assert logits["data"] == LOGITS.ravel().tolist()
    np.testing.assert_allclose(np.frombuffer(rest, "<f4").reshape(2, 3).sum(axis=1), 1, rtol=1e-6)


def test_classes_are_strings_best_first_ties_by_index() -> None:
    head, _ = answered(Output("logits", False, 2))
    (output,) = head["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == [
        "2.000000:1:one: with a colon",
        "0.500000:0:zero",
        "4.250000:2:zwei äöü",
        "3.000000:0:zero",
    ]


def test_more_classes_than_there_are_means_all() -> None:
    head, _ = answered(Output("logits", False, 10**20), labels=None)
    assert head["outputs"][0]["shape"] == [2, 3]
    assert head["outputs"][0]["data"][0] == "2.000000:1"


def test_binary_strings_have_their_length_in_bytes_before_them() -> None:
    head, rest = answered(Output("logits", True, 1))
    first, second = b"2.000000:1:one: with a colon", "4.250000:2:zwei äöü".encode()
    expected = len(first).to_bytes(4, "little") + first + len(second).to_bytes(4, "little") + second
    assert rest == expected
    assert head["outputs"][0]["parameters"] == {"binary_data_size": len(expected)}


@pytest.mark.parametrize(
    ("accepted", "encoding", "decompress"),
    [
        ("gzip", "gzip", gzip.decompress),
        ("deflate", "deflate", zlib.decompress),
        ("br, GZIP;q=0.5, deflate", "gzip", gzip.decompress),
        ("gzip; q=0, deflate", "deflate", zlib.decompress),
        ("identity", None, bytes),
        ("gzip;q=0", None, bytes),
        ("", None, bytes),
    ],
)
def test_compression_wraps_json_and_tensors(accepted: str, encoding: str | None, decompress) -> None:  # type: ignore[no-untyped-def]
    inference = Inference([], [Output("logits", True)])
    plain, _ = answer(inference, MANIFEST, None, {"logits": LOGITS}, "")
    body, headers = answer(inference, MANIFEST, None, {"logits": LOGITS}, accepted)
    assert headers.get("content-encoding") == encoding
    assert decompress(body) == plain
    length = int(headers["inference-header-content-length"])
    assert json.loads(plain[:length])["outputs"][0]["name"] == "logits"
