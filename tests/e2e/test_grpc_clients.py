"""The service over gRPC as its users ask it: NVIDIA's client and load generator, and Kubernetes' kind of probe."""

import base64
import hashlib
import json
import os
import queue
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.cross_check.perf_analyzer import PerfAnalyzerMissingError, fetch_perf_analyzer
from tests.debian import package_lock
from tests.e2e.processes import GOLDEN, ROOT, ServiceProcess, add_digits, running_service

grpc = pytest.importorskip("grpc", reason="mixer-serving[grpc] is not installed")
triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")

DIGIT = (GOLDEN / "digit-7.png").read_bytes()
SIDE = 32
PATIENT = ("--deadline-ms", "60000", "--latency-target-ms", "60000")  # however busy it is here


def address(service: ServiceProcess) -> str:
    return f"127.0.0.1:{service.log[-1]['grpc_port']}"


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_service(*PATIENT, "--grpc-port", "0") as service:
        yield service


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[Any]:
    with triton.InferenceServerClient(address(service)) as client:
        yield client


def encoded(*images: bytes) -> list[Any]:
    tensor = triton.InferInput("image_bytes", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, dtype=np.object_))
    return [tensor]


def pixels(images: np.ndarray) -> list[Any]:
    tensor = triton.InferInput("images", images.shape, "UINT8")
    tensor.set_data_from_numpy(images)
    return [tensor]


def test_health_and_descriptions(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert "classification" in client.get_server_metadata().extensions
    assert list(client.get_model_metadata("digits").inputs[0].shape) == [-1, SIDE, SIDE, 3]
    assert client.get_model_config("digits", "1").config.max_batch_size == 64
    assert client.get_inference_statistics("digits").model_stats[0].name == "digits"
    assert client.get_inference_statistics().model_stats[0].version == "1"


def test_the_librarys_threads_come_after_the_event_loop(service: ServiceProcess) -> None:
    threads = list(Path(f"/proc/{service.process.pid}/task").iterdir())
    found = [thread for thread in threads if (thread / "comm").read_text() == "event_engine\n"]
    usual = os.getpriority(os.PRIO_PROCESS, service.process.pid)
    assert {os.getpriority(os.PRIO_PROCESS, int(thread.name)) for thread in found} == {min(19, usual + 5)}


def test_an_image_has_the_logits_that_it_has_over_http_bit_by_bit(client: Any, service: ServiceProcess) -> None:
    result = client.infer("digits", encoded(DIGIT), request_id="seven")
    assert result.get_response().id == "seven"
    url, headers = f"{service.url}/v2/models/digits/infer", {"Inference-Header-Content-Length": "0"}
    response = httpx.post(url, content=DIGIT, headers=headers)
    http = response.content[int(response.headers["inference-header-content-length"]) :]
    assert result.as_numpy("logits").tobytes() + result.as_numpy("probabilities").tobytes() == http
    assert result.as_numpy("logits").argmax() == 7


def test_outputs(client: Any) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", class_count=3), triton.InferRequestedOutput("features")]
    result = client.infer("digits", encoded(DIGIT, DIGIT), outputs=outputs, compression_algorithm="gzip")
    assert result.as_numpy("logits") is None
    assert result.as_numpy("probabilities")[0, 0].endswith(b":7:7")
    assert result.as_numpy("features").shape == (2, 128)


def test_a_hundred_calls_at_once_get_their_own_answers(client: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, SIDE, SIDE, 3), np.uint8)
    expected = [client.infer("digits", pixels(image[None])).as_numpy("logits") for image in images[:20]]
    answers: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    for number, image in enumerate(images):

        def answered(result: Any, error: Any, number: int = number) -> None:
            answers.put((number, result, error))

        client.async_infer("digits", pixels(image[None]), answered, client_timeout=60)
    found = {}
    for _ in images:
        number, result, error = answers.get(timeout=60)
        assert error is None
        found[number] = result.as_numpy("logits")
    for number, logits in enumerate(expected):
        np.testing.assert_allclose(found[number], logits, atol=1e-3)


def test_errors_have_their_status_and_our_message(client: Any) -> None:
    for ask, status, says in (
        (lambda: client.infer("nope", encoded(DIGIT)), "NOT_FOUND", "no such model"),
        (lambda: client.infer("digits", encoded(DIGIT), "9"), "NOT_FOUND", "no such model or version"),
        (lambda: client.infer("digits", encoded(b"text")), "INVALID_ARGUMENT", "not an accepted image format"),
        (lambda: client.infer("digits", encoded(DIGIT) + pixels(np.zeros((1, 32, 32, 3), np.uint8))),
         "INVALID_ARGUMENT", "not both"),
        (lambda: client.infer("digits", pixels(np.zeros((1, 9, 9, 3), np.uint8))), "INVALID_ARGUMENT", "have shape"),
        (lambda: client.infer("digits", encoded(DIGIT), sequence_id=3), "INVALID_ARGUMENT", "sequences"),
        (lambda: client.infer("digits", encoded(DIGIT), timeout=1), "RESOURCE_EXHAUSTED", "a deadline would be missed"),
        (lambda: client.infer("digits", encoded(bytes(17 * 2**20))), "RESOURCE_EXHAUSTED", "larger than max"),
        (lambda: client.get_model_metadata("nope"), "NOT_FOUND", "no such model"),
        (client.get_model_repository_index, "UNIMPLEMENTED", ""),
    ):  # fmt: skip
        with pytest.raises(triton.InferenceServerException) as refused:
            ask()
        assert refused.value.status() == f"StatusCode.{status}"
        assert says in refused.value.message()


def test_a_probe_asks_for_health(service: ServiceProcess) -> None:
    health = pytest.importorskip("grpc_health.v1.health_pb2")
    stubs = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    with grpc.insecure_channel(address(service)) as channel:
        for name in ("", "liveness", "readiness", "inference.GRPCInferenceService"):
            answer = stubs.HealthStub(channel).Check(health.HealthCheckRequest(service=name))
            assert answer.status == health.HealthCheckResponse.SERVING


def test_the_documented_example_answers_as_shown(service: ServiceProcess) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "grpc.md").read_text(), re.DOTALL)
    code = code.replace("localhost:8001", address(service)).replace("client_timeout=1.0", "client_timeout=60")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    (shown,) = re.findall(r"# (\[\[.*\]\])", code)
    assert [best.split(":")[1:] for best in shown.split()] == [best.split(":")[1:] for best in result.stdout.split()]


def test_keys_and_two_models(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add_digits(tmp_path / "models", name=name)
    (tmp_path / "keys").write_text(hashlib.sha256(b"right").hexdigest())
    flags = [
        "--repository",
        str(tmp_path / "models"),
        "--api-keys-file",
        str(tmp_path / "keys"),
        "--grpc-port",
        "0",
        *PATIENT,
    ]
    with running_service(*flags) as service, triton.InferenceServerClient(address(service)) as client:
        outputs = [triton.InferRequestedOutput("logits", class_count=1)]
        for name in ("one", "two"):
            result = client.infer(name, encoded(DIGIT), outputs=outputs, headers={"authorization": "Bearer right"})
            assert result.as_numpy("logits")[0, 0].endswith(f"{name}/1 7".encode())
        for headers in ({}, {"x-api-key": "wrong"}):
            with pytest.raises(triton.InferenceServerException) as refused:
                client.infer("one", encoded(DIGIT), headers=headers)
            assert refused.value.status() == "StatusCode.UNAUTHENTICATED"


def test_a_drain_answers_everybody_and_tells_them_to_go(tmp_path: Path) -> None:
    """New work is served for a while after SIGTERM, then refused; nothing that was let in is lost."""
    flags = ["--grpc-port", "0", "--drain-seconds", "1", "--log-requests", "off", *PATIENT]
    with running_service(*flags) as service, triton.InferenceServerClient(address(service)) as client:
        outcomes: queue.Queue[Any] = queue.Queue()
        client.infer("digits", encoded(DIGIT))
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("received SIGTERM")
        assert not client.is_server_ready()
        statuses = set()
        while True:
            for _ in range(20):
                client.async_infer("digits", encoded(DIGIT), lambda result, error: outcomes.put(error or result))
            ended = [outcomes.get(timeout=60) for _ in range(20)]
            statuses |= {each.status() for each in ended if isinstance(each, Exception)}
            if any(isinstance(each, Exception) for each in ended):
                break
        assert statuses == {"StatusCode.UNAVAILABLE"}
        assert service.wait_for("stopped")["lost_images"] == 0
        assert service.process.wait(timeout=60) == 0


def test_perf_analyzer_measures_over_grpc(service: ServiceProcess, tmp_path: Path) -> None:
    with package_lock():
        try:
            program, environment = fetch_perf_analyzer(ROOT / ".venv" / "perf_analyzer")
        except PerfAnalyzerMissingError as missing:
            pytest.skip(str(missing))
    element = struct.pack("<I", len(DIGIT)) + DIGIT
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"data": [{"image_bytes": {"b64": base64.b64encode(element).decode(), "shape": [1]}}]}))
    command = [
        program, "-m", "digits", "-u", address(service), "-i", "grpc", "--input-data", str(data), "-b", "2",
        "--concurrency-range", "4", "--measurement-mode", "count_windows", "--measurement-request-count", "40",
        "-s", "1000000",
    ]  # fmt: skip
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "infer/sec" in result.stdout


def test_without_the_extra_one_line_says_which(tmp_path: Path) -> None:
    """As where grpc cannot be imported."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['grpc'] = None\n")
    result = subprocess.run(
        ["python", "-m", "service", "--grpc-port", "0"],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": str(Path(sys.executable).parent)},
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (
        2,
        "mixer-serve: --grpc-port needs gRPC: pip install 'mixer-serving[grpc]', or in a checkout make setup\n",
    )
