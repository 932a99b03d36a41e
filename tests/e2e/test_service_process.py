"""The committed bundle served by a real process, asked by real clients."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from model_export.bundles.parity import pipeline
from model_export.datasets import digits
from service.bundles.bundle import load_bundle
from service.engines.openvino_engine import OpenVinoEngine
from service.lanes.postprocess import softmax
from tests.doubles import write_bundle
from tests.e2e.processes import GOLDEN, ROOT, ServiceProcess, running_service

pytestmark = pytest.mark.anyio

PATIENT = {"x-deadline-ms": "60000"}  # a slow machine is not what is tested

# What an image's answer is when it is alone: probability of every class.
Sent = tuple[bytes, np.ndarray]


@pytest.fixture(scope="module")
def real_digits() -> list[Sent]:
    """Held-out digits as PNGs and JPEGs of several sizes, each with the answer it gets in a pass of its own."""
    bundle = load_bundle(GOLDEN.parent)
    engine = OpenVinoEngine(bundle.model_path, 1, bundle.manifest.precision)
    prepare = pipeline(bundle.manifest.preprocessing)
    _, held_out = digits.load_split()
    sent = []
    for i, ink in enumerate(held_out.ink[:128]):
        side = (32, 64, 100)[i % 3]
        gray = (digits.render(torch.nn.functional.interpolate(ink[None], size=side), on_white=i % 2 == 0) * 255).byte()
        file = io.BytesIO()
        image = Image.fromarray(gray[0, 0].numpy())
        image.save(file, "JPEG", quality=90) if i % 4 < 2 else image.save(file, "PNG")
        data = file.getvalue()
        sent.append((data, softmax(engine.run(prepare(data)[None])[0])))
    return sent


@pytest.fixture(scope="module")
def service():  # type: ignore[no-untyped-def]
    with running_service("--engine", "openvino") as service:
        yield service


async def test_each_of_many_concurrent_digits_gets_its_own_answer(
    service: ServiceProcess, real_digits: list[Sent]
) -> None:
    before = service.metrics()
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=60, headers=PATIENT) as client:
        responses = await asyncio.gather(
            *(client.post("/v1/classify?top_k=10", content=data) for data, _ in real_digits * 2)
        )
    for response, (_, expected) in zip(responses, real_digits * 2, strict=True):
        assert response.status_code == 200
        answered = {p["index"]: p["probability"] for p in response.json()["predictions"]}
        np.testing.assert_allclose([answered[i] for i in range(10)], expected, atol=1e-4)
    after = service.metrics()
    n = len(responses)
    assert (
        after['mixer_images_total{model="digits",outcome="ok",version="1"}']
        - before['mixer_images_total{model="digits",outcome="ok",version="1"}']
        == n
    )
    images, passes = (
        after[name] - before[name]
        for name in (f'mixer_batch_size_{of}{{model="digits",version="1"}}' for of in ("sum", "count"))
    )
    assert images == n
    assert passes < n, "no two concurrent images ever shared a pass"


@pytest.mark.parametrize("digit", range(10))
def test_the_sample_digits_are_named(service: ServiceProcess, digit: int) -> None:
    """Posted as `curl --data-binary` does, which announces a form."""
    response = httpx.post(
        f"{service.url}/v1/classify",
        content=(GOLDEN / f"digit-{digit}.png").read_bytes(),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert response.json()["predictions"][0]["label"] == str(digit)


def test_health_docs_and_metrics(service: ServiceProcess) -> None:
    for path in ("/healthz/live", "/healthz/ready", "/docs", "/openapi.json"):
        assert httpx.get(service.url + path).status_code == 200
    metrics = service.metrics()
    assert metrics["mixer_ready"] == 1
    assert 0 < metrics["mixer_front_cpu_seconds_total"] < metrics["process_cpu_seconds_total"]
    assert metrics["mixer_lanes_ready"] == metrics["mixer_lanes"]
    assert metrics["mixer_lanes"] * metrics["mixer_lane_threads"] <= max(1, metrics["mixer_cores"])
    assert metrics['mixer_predicted_capacity_images_per_second{model="digits",version="1"}'] > 0
    assert metrics["process_cpu_seconds_total"] > 0


def test_prometheus_accepts_the_metrics(service: ServiceProcess, promtool: str) -> None:
    httpx.post(f"{service.url}/v1/classify", content=(GOLDEN / "digit-1.png").read_bytes())
    httpx.get(f"{service.url}/nowhere")
    text = httpx.get(f"http://127.0.0.1:{service.metrics_port}/metrics").text
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


class Load:
    """Clients that post digits one after another until they are refused, each checking its answers."""

    def __init__(self, service: ServiceProcess, sent: list[Sent], clients: int, keep_alive: bool) -> None:
        self.counts: Counter[str] = Counter()
        self._service = service
        self._sent = sent
        self._keep_alive = keep_alive
        self._tasks = [asyncio.create_task(self._client(i)) for i in range(clients)]
        self._answers = asyncio.Condition()

    async def _client(self, number: int) -> None:
        headers = PATIENT | ({} if self._keep_alive else {"connection": "close"})
        async with httpx.AsyncClient(base_url=self._service.url, timeout=60, headers=headers) as client:
            for i in range(number, 100_000):
                data, expected = self._sent[i % len(self._sent)]
                try:
                    response = await client.post("/v1/classify", content=data)
                except httpx.ConnectError:
                    self.counts["refused"] += 1
                    return
                except httpx.TransportError as error:
                    self.counts[repr(error)] += 1
                    return
                right = response.status_code == 200 and response.json()["predictions"][0]["index"] == expected.argmax()
                self.counts["ok" if right else response.text] += 1
                async with self._answers:
                    self._answers.notify_all()

    async def answered(self, count: int) -> None:
        async with asyncio.timeout(60), self._answers:
            await self._answers.wait_for(lambda: self.counts["ok"] >= count)

    async def ended(self) -> Counter[str]:
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)
        return self.counts


@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "a connection a request"])
async def test_sigterm_under_load_loses_nothing(real_digits: list[Sent], keep_alive: bool) -> None:
    """Every request that got a connection is answered rightly, before, during and after SIGTERM; then exit 0."""
    with running_service("--drain-seconds", "2") as service:
        load = Load(service, real_digits, clients=32, keep_alive=keep_alive)
        await load.answered(200)
        service.terminate()
        while service.metrics()["mixer_draining"] == 0:
            await asyncio.sleep(0.01)
        during = load.counts["ok"]
        async with httpx.AsyncClient(base_url=service.url, headers=PATIENT) as client:
            ready = await client.get("/healthz/ready")
            served = await client.post("/v1/classify", content=real_digits[0][0])
        assert (ready.status_code, served.status_code) == (503, 200)
        assert served.headers["connection"] == "close"
        await load.answered(during + 100)
        counts = await load.ended()
        assert counts.keys() == {"ok", "refused"}
        assert counts["refused"] == 32
        assert service.wait_for("stopped")["lost_images"] == 0
        assert service.process.wait(timeout=30) == 0


async def test_a_second_sigterm_hastens_the_drain(real_digits: list[Sent]) -> None:
    with running_service("--drain-seconds", "3000") as service:
        load = Load(service, real_digits, clients=8, keep_alive=True)
        await load.answered(50)
        service.terminate()
        service.wait_for("received SIGTERM")
        await load.answered(load.counts["ok"] + 50)
        service.terminate()
        counts = await load.ended()
        assert counts.keys() == {"ok", "refused"}
        assert service.process.wait(timeout=30) == 0


async def test_metrics_answer_while_the_service_is_saturated(real_digits: list[Sent]) -> None:
    with running_service("--max-inflight-images", "16", "--max-batch-size", "8") as service:
        limits = httpx.Limits(max_connections=128)
        async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=60, headers=PATIENT) as client:
            posts = asyncio.gather(*(client.post("/v1/classify", content=data) for data, _ in real_digits * 2))
            scraped = await asyncio.to_thread(service.metrics)
            assert scraped["mixer_ready"] == 1
            codes = Counter(response.status_code for response in await posts)
        assert codes.keys() == {200, 429}
        after = service.metrics()
        assert after['mixer_images_total{model="digits",outcome="ok",version="1"}'] == codes[200]
        assert after['mixer_images_total{model="digits",outcome="rejected",version="1"}'] == codes[429]
        assert after["mixer_inflight_images"] == 0


def test_a_reader_of_the_log_who_stops_reading_stops_nothing_else() -> None:
    """Each of the requests has a line, which fill the pipe several times over."""
    flags = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--drain-seconds", "0"]
    command = [sys.executable, "-m", "service", *flags, "--log-requests", "all"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            while not (line := json.loads(process.stderr.readline()))["message"].startswith("listening"):
                pass
            with httpx.Client(base_url=f"http://127.0.0.1:{line['port']}", timeout=60) as client:
                assert {client.get("/nowhere").status_code for _ in range(3000)} == {404}
                assert client.post("/v1/classify", content=(GOLDEN / "digit-7.png").read_bytes()).status_code == 200
            metrics = httpx.get(f"http://127.0.0.1:{line['metrics_port']}/metrics", timeout=60)
            assert "\nmixer_log_lines_dropped_total 0.0\n" in metrics.text
            process.terminate()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def refused_start(*flags: str) -> tuple[int, str]:
    result = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0", "--metrics-port", "0", *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr.splitlines()[-1]


def test_a_start_that_cannot_succeed_says_why_and_exits(service: ServiceProcess, tmp_path: Path) -> None:
    assert refused_start("--max-batch-size", "-1") == (
        2, "mixer-serve: --max-batch-size -1: should be greater than or equal to 0"
    )  # fmt: skip
    assert refused_start("--models", "nope") == (
        1,
        f"mixer-serve: MIXER_MODEL_REPOSITORY {ROOT / 'models'}: has no model 'nope'; it has digits",
    )
    status, message = refused_start("--port", str(service.port))
    assert (status, message) == (1, f"mixer-serve: --port {service.port}: Address already in use")
    status, message = refused_start("--providers", "NoSuchProvider")
    assert status == 1
    assert "NoSuchProvider" in message
    broken = write_bundle(tmp_path)
    (broken / "labels.txt").write_text("tampered")
    status, message = refused_start("--model-repository", str(tmp_path))
    assert status == 1
    assert "sha256" in message


@pytest.mark.parametrize("engine", ["auto", "onnxruntime", "openvino"])
def test_a_model_that_is_none_is_told_in_one_line(tmp_path: Path, engine: str) -> None:
    bundle = write_bundle(tmp_path)
    flags = ["--port", "0", "--metrics-port", "0", "--model-repository", str(tmp_path), "--engine", engine]
    command = [sys.executable, "-m", "service", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    (line,) = (line for line in ended.stderr.splitlines() if not line.startswith("{"))
    assert line.startswith(f"mixer-serve: {bundle}/model.onnx: ")


@pytest.mark.parametrize(
    ("flag", "limit", "told"),
    [("-n", "16", "16 open files (ulimit -n)"), ("-v", "204800", "200 MiB of address space (ulimit -v)")],
)
def test_a_limit_that_is_too_low_is_told_in_one_line(flag: str, limit: str, told: str) -> None:
    command = ["bash", "-c", 'ulimit "$1" "$2" && exec "$0" -m service', sys.executable, flag, limit]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"mixer-serve: the limit of {told} is too little: it takes ")


PROGRAMS = {"module": ["-m", "service"], "console script": ["-c", "from service.__main__ import main; main()"]}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_libraries_are_loaded_ends_at_once_with_0(
    tmp_path: Path, program: list[str], number: signal.Signals
) -> None:
    """Held up in the middle of an import. A SIGHUP then means nothing: nothing is loaded that could be reloaded."""
    (tmp_path / "uvicorn.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, *program, "--port", "0", "--metrics-port", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(number)
        try:
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def test_what_every_spawned_process_imports_is_light() -> None:
    """Each lane imports the main module too: no library, and of ours what the main module alone needs."""
    program = """
import sys
before = set(sys.modules)
import service.__main__
loaded = {name.partition('.')[0] for name, module in sys.modules.items() if module and name not in before}
print(*loaded - sys.stdlib_module_names)
"""
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output == "service\n"


def test_what_start_up_made_is_left_out_of_later_collections_of_garbage() -> None:
    script = """
import gc
from service import __main__, serve
async def count(self, sockets):
    print(gc.get_freeze_count(), len(gc.get_objects()), flush=True)
serve.DrainingServer.serve = count
__main__.main()
"""
    command = [sys.executable, "-c", script, "--host", "127.0.0.1", "--port", "0", "--metrics-port", "0"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    left_out, looked_through = map(int, output.split())
    assert left_out > 20 * looked_through
