"""The Open Inference Protocol as its users speak it: NVIDIA's client, and bytes on a socket."""

import gzip
import json
import socket
import struct
import zlib
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.processes import GOLDEN, ServiceProcess, running_service

triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")

DIGIT = (GOLDEN / "digit-7.png").read_bytes()
SIDE = 32


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_service("--latency-target-ms", "5000") as service:
        yield service


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{service.port}", concurrency=4) as client:
        yield client


def encoded(*images: bytes, binary: bool = True) -> list[triton.InferInput]:
    tensor = triton.InferInput("image_bytes", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, dtype=np.object_), binary_data=binary)
    return [tensor]


def pixels(images: np.ndarray, binary: bool = True) -> list[triton.InferInput]:
    tensor = triton.InferInput("images", images.shape, "UINT8")
    tensor.set_data_from_numpy(images, binary_data=binary)
    return [tensor]


def rendered() -> np.ndarray:
    """The golden digit as the service's preprocessing makes it."""
    image = Image.open(GOLDEN / "digit-7.png").convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))[None]


def test_health_and_descriptions(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("nope")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("digits")["inputs"][0]["shape"] == [-1, SIDE, SIDE, 3]
    assert client.get_model_config("digits", "1")["max_batch_size"] == 64
    assert client.get_inference_statistics("digits")["model_stats"][0]["name"] == "digits"
    assert client.get_inference_statistics()["model_stats"][0]["version"] == "1"


def test_an_encoded_image_in_the_default_mode(client: triton.InferenceServerClient) -> None:
    result = client.infer("digits", encoded(DIGIT), request_id="seven")
    assert result.get_response()["id"] == "seven"
    logits, probabilities = result.as_numpy("logits"), result.as_numpy("probabilities")
    assert (logits.shape, logits.dtype) == ((1, 10), np.float32)
    assert logits.argmax() == 7
    assert probabilities.sum() == pytest.approx(1)


def test_pixels_files_and_v1_agree(client: triton.InferenceServerClient, service: ServiceProcess) -> None:
    of_file = client.infer("digits", encoded(DIGIT)).as_numpy("logits")
    for binary in (True, False):
        of_pixels = client.infer("digits", pixels(rendered(), binary)).as_numpy("logits")
        np.testing.assert_array_equal(of_pixels, of_file)
    answer = httpx.post(f"{service.url}/v1/classify?top_k=10", content=DIGIT).json()
    probabilities = client.infer("digits", encoded(DIGIT)).as_numpy("probabilities")[0]
    for prediction in answer["predictions"]:
        assert probabilities[prediction["index"]] == pytest.approx(prediction["probability"], abs=1e-5)


@pytest.mark.parametrize("binary_in", [True, False], ids=["binary-in", "json-in"])
@pytest.mark.parametrize("binary_out", [True, False], ids=["binary-out", "json-out"])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_every_form_of_request_and_answer(
    client: triton.InferenceServerClient, binary_in: bool, binary_out: bool, compression: str | None
) -> None:
    images = np.concatenate([rendered(), 255 - rendered(), np.zeros((1, SIDE, SIDE, 3), np.uint8)])
    expected = np.concatenate([client.infer("digits", pixels(image[None])).as_numpy("logits") for image in images])
    result = client.infer(
        "digits",
        pixels(images, binary_in),
        outputs=[triton.InferRequestedOutput("logits", binary_data=binary_out)],
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    np.testing.assert_allclose(result.as_numpy("logits"), expected, atol=1e-4 * np.abs(expected).max())
    assert result.as_numpy("probabilities") is None


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client: triton.InferenceServerClient, binary: bool) -> None:
    outputs = [
        triton.InferRequestedOutput("logits", class_count=3, binary_data=binary),
        triton.InferRequestedOutput("probabilities", class_count=1, binary_data=binary),
    ]
    result = client.infer("digits", encoded(DIGIT, DIGIT), outputs=outputs)
    strings = result.as_numpy("logits")
    assert strings.shape == (2, 3)
    values = []
    for string in strings[0]:
        value, index, label = (string if isinstance(string, str) else string.decode()).split(":")
        assert index == label
        values.append(float(value))
    assert values == sorted(values, reverse=True)
    (best,) = result.as_numpy("probabilities")[0]
    assert (best if isinstance(best, str) else best.decode()).endswith(":7:7")


def test_many_requests_at_once_get_their_own_answers(client: triton.InferenceServerClient) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, SIDE, SIDE, 3), np.uint8)
    expected = [client.infer("digits", pixels(image[None])).as_numpy("logits") for image in images]
    asked = [client.async_infer("digits", pixels(image[None])) for image in images]
    for request, logits in zip(asked, expected, strict=True):
        np.testing.assert_allclose(request.get_result().as_numpy("logits"), logits, atol=1e-3)


def test_timeout_and_priority(client: triton.InferenceServerClient) -> None:
    for priority in (0, 1, 2):
        client.infer("digits", encoded(DIGIT), priority=priority, timeout=30_000_000)
    with pytest.raises(triton.InferenceServerException, match="a deadline would be missed") as refused:
        client.infer("digits", encoded(DIGIT), timeout=1)
    assert refused.value.status() == "429"


def test_errors_carry_our_message(client: triton.InferenceServerClient) -> None:
    for ask, status, says in (
        (lambda: client.infer("nope", encoded(DIGIT)), "404", "no such model"),
        (lambda: client.infer("digits", encoded(DIGIT), "9"), "404", "no such model or version"),
        (lambda: client.infer("digits", encoded(b"text")), "415", "not an accepted image format"),
        (lambda: client.infer("digits", encoded(DIGIT[:99])), "422", "truncated or damaged"),
        (lambda: client.infer("digits", encoded(DIGIT) + pixels(rendered())), "400", "not both"),
        (lambda: client.infer("digits", pixels(np.zeros((1, 9, 9, 3), np.uint8))), "400", "must have shape"),
        (lambda: client.infer("digits", encoded(DIGIT), sequence_id=3), "400", "sequences"),
        (lambda: client.get_model_metadata("nope"), "404", "no such model"),
    ):
        with pytest.raises(triton.InferenceServerException) as refused:
            ask()
        assert refused.value.status() == status
        assert says in refused.value.message()


def exchange(service: ServiceProcess, body: bytes, *headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request for inference, written to a socket byte for byte, and its answer."""
    lines = ["POST /v2/models/digits/infer HTTP/1.1", "Host: mixer", f"Content-Length: {len(body)}", *headers]
    head = "\r\n".join((*lines, "Connection: close", "", "")).encode()
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), {name.lower(): value for name, value in (f.split(": ", 1) for f in fields)}, body


def test_a_raw_body_on_the_wire(service: ServiceProcess) -> None:
    status, headers, body = exchange(service, DIGIT, "Inference-Header-Content-Length: 0")
    length = int(headers["inference-header-content-length"])
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert json.loads(body[:length])["outputs"][0] == {
        "name": "logits", "shape": [1, 10], "datatype": "FP32", "parameters": {"binary_data_size": 40},
    }  # fmt: skip
    assert np.frombuffer(body[length : length + 40], "<f4").argmax() == 7
    assert len(body) == length + 80


@pytest.mark.parametrize(("encoding", "decompress"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_lengths_are_those_before_compression_on_the_wire(service: ServiceProcess, encoding: str, decompress) -> None:  # type: ignore[no-untyped-def]
    data = struct.pack("<I", len(DIGIT)) + DIGIT
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = (gzip.compress if encoding == "gzip" else zlib.compress)(head + data)
    status, headers, body = exchange(
        service,
        body,
        f"Inference-Header-Content-Length: {len(head)}",
        f"Content-Encoding: {encoding}",
        f"Accept-Encoding: {encoding}",
    )
    assert (status, headers["content-encoding"], int(headers["content-length"])) == (200, encoding, len(body))
    plain = decompress(body)
    length = int(headers["inference-header-content-length"])
    assert json.loads(plain[:length])["model_name"] == "digits"
    assert len(plain) == length + 80


def test_a_bomb_is_413_and_the_service_lives_on(service: ServiceProcess) -> None:
    bomb = gzip.compress(bytes(64 * 2**20))
    status, _, body = exchange(service, bomb, "Content-Encoding: gzip", "Inference-Header-Content-Length: 9")
    assert status == 413
    assert "exceeds" in json.loads(body)["error"]
    assert exchange(service, DIGIT, "Inference-Header-Content-Length: 0")[0] == 200


def test_a_body_beyond_the_limit_is_413_in_the_protocols_words(service: ServiceProcess) -> None:
    response = httpx.post(f"{service.url}/v2/models/digits/infer", content=bytes(16 * 2**20 + 1))
    assert response.status_code == 413
    assert isinstance(response.json()["error"], str)
