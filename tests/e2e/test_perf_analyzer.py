"""NVIDIA's load generator drives the service, unmodified."""

import base64
import json
import os
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.processes import GOLDEN, ROOT, running_service

CACHE = ROOT / ".venv" / "perf_analyzer"
# The last wheel whose perf_analyzer runs with Debian 12's glibc; later ones need a newer one, or hold none.
WHEELS = ("tritonclient==2.50.0", "nvidia-cuda-runtime-cu12==12.9.79")

DIGIT = (GOLDEN / "digit-7.png").read_bytes()


@pytest.fixture(scope="module")
def perf_analyzer() -> tuple[str, dict[str, str]]:
    """The program and its environment, unpacked (not installed) from the packages that hold it and its libraries."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("perf_analyzer is built for x86-64 Linux only")
    CACHE.mkdir(parents=True, exist_ok=True)
    programs = list(CACHE.glob("tritonclient-*.data/data/bin/perf_analyzer"))
    if not programs:
        for wheel in WHEELS:
            _run("pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(CACHE), wheel)
        for path in CACHE.glob("*.whl"):
            _run("zipfile", "-e", str(path), str(CACHE))
        programs = list(CACHE.glob("tritonclient-*.data/data/bin/perf_analyzer"))
    if not list(CACHE.rglob("libb64.so.0d")):
        fetch = "apt-get download libb64-0d || { apt-get update && apt-get download libb64-0d; }"
        script = f"{{ {fetch}; }} && dpkg -x libb64-0d_*.deb ."
        result = subprocess.run(["bash", "-c", script], cwd=CACHE, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"perf_analyzer needs libb64.so.0d, and Debian's package cannot be had: {result.stderr}")
    programs[0].chmod(0o755)
    libraries = {str(path.parent) for name in ("libb64.so.0d", "libcudart.so.12") for path in CACHE.rglob(name)}
    environment = os.environ | {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}
    result = subprocess.run([programs[0]], env=environment, capture_output=True, text=True, check=False)
    if "Usage: " not in result.stdout + result.stderr:
        pytest.skip(f"perf_analyzer does not start here: {result.stdout}{result.stderr}")
    return str(programs[0]), environment


def _run(module: str, *arguments: str) -> None:
    result = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"perf_analyzer cannot be had: {' '.join((module, *arguments))}: {result.stderr}")


def test_it_measures_pixels_and_encoded_images_one_by_one_and_in_batches(
    perf_analyzer: tuple[str, dict[str, str]], tmp_path: Path
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


def _figure(pattern: str, report: str) -> str:
    found = re.search(pattern, report)
    assert found, report
    return found[1]
