"""NVIDIA's load generator drives the service, unmodified."""

import base64
import json
import re
import struct
import subprocess
from pathlib import Path

import httpx
import pytest

from benchmarks.cross_check.perf_analyzer import (
    Load,
    PerfAnalyzer,
    PerfAnalyzerMissingError,
    closed,
    fetch_perf_analyzer,
    measure,
    poisson,
)
from tests.debian import package_lock
from tests.e2e.processes import GOLDEN, ROOT, running_service

DIGIT = (GOLDEN / "digit-7.png").read_bytes()


@pytest.fixture(scope="module")
def perf_analyzer() -> PerfAnalyzer:
    with package_lock():
        try:
            return fetch_perf_analyzer(ROOT / ".venv" / "perf_analyzer")
        except PerfAnalyzerMissingError as missing:
            pytest.skip(str(missing))


def test_it_measures_pixels_and_encoded_images_one_by_one_and_in_batches(
    perf_analyzer: PerfAnalyzer, tmp_path: Path
) -> None:
    program, environment = perf_analyzer
    element = struct.pack("<I", len(DIGIT)) + DIGIT
    pixels = {"images": {"content": [value % 256 for value in range(32 * 32 * 3)], "shape": [32, 32, 3]}}
    files = {"image_bytes": {"b64": base64.b64encode(element).decode(), "shape": [1]}}
    data = tmp_path / "data.json"
    with running_service("--latency-target-ms", "5000") as service:
        for input_, batch, concurrency in ((pixels, 1, 1), (pixels, 8, 4), (files, 1, 4), (files, 8, 1)):
            data.write_text(json.dumps({"data": [input_]}))
            command = [
                program, "-m", "digits", "-u", f"127.0.0.1:{service.port}", "-i", "http", "--input-data", str(data),
                "-b", str(batch), "--concurrency-range", str(concurrency),
                # Few requests, and no opinion on how steady their rate is.
                "--measurement-mode", "count_windows", "--measurement-request-count", "40", "-s", "1000000",
            ]  # fmt: skip
            result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
            assert result.returncode == 0, result.stdout + result.stderr
            assert float(_figure(r"throughput: ([\d.]+) infer/sec", result.stdout)) > 0
            assert int(_figure(r"Successful request count: (\d+)", result.stdout)) >= 40
            images = int(_figure(r"Inference count: (\d+)", result.stdout))
            assert images >= batch * 40
            assert 0 < int(_figure(r"Execution count: (\d+)", result.stdout)) <= images
            assert int(_figure(r"compute infer (\d+) usec", result.stdout)) > 0
        (model,) = httpx.get(f"{service.url}/v2/models/digits/stats").json()["model_stats"]
        assert model["inference_stats"]["fail"]["count"] == 0


@pytest.mark.parametrize(
    ("load", "at_most"), [(closed(2), float("inf")), (poisson(50), 50 * 1.6)], ids=["closed", "poisson"]
)
def test_its_figures_are_read_from_its_table(perf_analyzer: PerfAnalyzer, load: Load, at_most: float) -> None:
    with running_service("--latency-target-ms", "5000") as service:
        figures = measure(perf_analyzer, service.url, "digits", [DIGIT, DIGIT], seconds=3, load=load)
        assert (
            service.metrics()['mixer_images_total{model="digits",outcome="ok",version="1"}']
            >= 3 * figures.images_per_second * 0.9
        )
    assert 0 < figures.images_per_second <= at_most
    assert figures.p50_ms is not None
    assert figures.p99_ms is not None
    assert 0 < figures.p50_ms <= figures.p99_ms


def test_its_report_says_why_it_failed(perf_analyzer: PerfAnalyzer) -> None:
    with running_service() as service, pytest.raises(RuntimeError, match="perf_analyzer failed"):
        measure(perf_analyzer, service.url, "missing", [DIGIT], seconds=1, load=closed(1))


def _figure(pattern: str, report: str) -> str:
    found = re.search(pattern, report)
    assert found, report
    return found[1]
