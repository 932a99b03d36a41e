"""NVIDIA's perf_analyzer: found where pip has it, and run on an endpoint of the Open Inference Protocol.

https://github.com/triton-inference-server/perf_analyzer
"""

import base64
import csv
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.cross_check.comparison import Figures

# The last wheel whose perf_analyzer runs with Debian 12's glibc; later ones need a newer one, or hold none.
_WHEELS = ("tritonclient==2.50.0", "nvidia-cuda-runtime-cu12==12.9.79")
_WINDOWS = 3  # that it measures at least
_THREADS = 32  # that send at a rate; each waits for its answer
_LONGEST = 120  # seconds beyond those of the load
_FETCHING = 600  # seconds

Load = tuple[str, ...]


class PerfAnalyzerMissingError(RuntimeError):
    """It cannot be had here; says why."""


class PerfAnalyzer(NamedTuple):
    """The program and what it needs."""

    path: Path
    environment: dict[str, str]


def fetch_perf_analyzer(cache: Path) -> PerfAnalyzer:
    """The program, unpacked (not installed) from the packages that hold it and its libraries; `cache` keeps them.

    Raises PerfAnalyzerMissingError.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise PerfAnalyzerMissingError("perf_analyzer is built for x86-64 Linux only")
    cache.mkdir(parents=True, exist_ok=True)
    programs = list(cache.glob("tritonclient-*.data/data/bin/perf_analyzer"))
    if not programs:
        for wheel in _WHEELS:
            download = ("pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(cache), wheel)
            _run(cache, sys.executable, "-m", *download)
        for path in cache.glob("*.whl"):
            _run(cache, sys.executable, "-m", "zipfile", "-e", str(path), str(cache))
        programs = list(cache.glob("tritonclient-*.data/data/bin/perf_analyzer"))
    if not list(cache.rglob("libb64.so.0d")):
        fetch = "apt-get download libb64-0d || { apt-get update && apt-get download libb64-0d; }"
        _run(cache, "bash", "-c", f"{{ {fetch}; }} && dpkg -x libb64-0d_*.deb .")
    if not programs:
        raise PerfAnalyzerMissingError(f"perf_analyzer is not in {_WHEELS[0]}; delete {cache} to try again")
    programs[0].chmod(0o755)
    libraries = {str(path.parent) for name in ("libb64.so.0d", "libcudart.so.12") for path in cache.rglob(name)}
    environment = os.environ | {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}
    try:
        usage = subprocess.run(
            [programs[0]], env=environment, capture_output=True, text=True, timeout=_LONGEST, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PerfAnalyzerMissingError(f"perf_analyzer does not start here: {error}") from None
    if "Usage: " not in usage.stdout + usage.stderr:
        raise PerfAnalyzerMissingError(f"perf_analyzer does not start here: {_end(usage)}")
    return PerfAnalyzer(programs[0], environment)


def _run(cache: Path, *command: str) -> None:
    try:
        result = subprocess.run(command, cwd=cache, capture_output=True, text=True, timeout=_FETCHING, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PerfAnalyzerMissingError(f"perf_analyzer cannot be had: {error}") from None
    if result.returncode:
        raise PerfAnalyzerMissingError(f"perf_analyzer cannot be had: {' '.join(command)}: {_end(result)}")


def _end(result: "subprocess.CompletedProcess[str]") -> str:
    """Of what it printed, in one line."""
    return " ".join((result.stdout + result.stderr).split())[-500:]


def closed(clients: int) -> Load:
    """So many clients who wait for their answers."""
    return ("--concurrency-range", str(clients))


def poisson(rate: float) -> Load:
    """Queries that arrive by chance, `rate` a second; latency is from when one was sent, not from when it should be."""
    return ("--request-rate-range", str(rate), "--request-distribution", "poisson", "--max-threads", str(_THREADS))


def measure(
    program: PerfAnalyzer, url: str, model: str, images: Sequence[bytes], seconds: float, load: Load
) -> Figures:
    """One load on the model's input `image_bytes`. Raises RuntimeError if it fails or takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        data, table = Path(folder) / "data.json", Path(folder) / "table.csv"
        data.write_text(json.dumps({"data": [{"image_bytes": _element(image)} for image in images]}))
        command = [
            str(program.path), "-m", model, "-u", urlsplit(url).netloc, "-i", "http", "--input-data", str(data),
            "--measurement-interval", str(round(seconds * 1000 / _WINDOWS)), "-f", str(table),
            # No opinion on how steady it is: three windows are enough, all count.
            "--stability-percentage", "1000000", *load,
        ]  # fmt: skip
        longest = seconds + _LONGEST
        try:
            result = subprocess.run(
                command, env=program.environment, capture_output=True, text=True, timeout=longest, check=False
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"perf_analyzer took longer than {longest:g} s") from None
        if result.returncode or not table.exists():
            raise RuntimeError(f"perf_analyzer failed: {_end(result)}")
        content = table.read_text()
    try:
        row = next(csv.DictReader(content.splitlines()))
        quantiles = [float(row[f"p{percent} latency"]) / 1000 for percent in (50, 90, 99)]
        return Figures(float(row["Inferences/Second"]), *quantiles)
    except (StopIteration, KeyError, ValueError):
        raise RuntimeError(f"perf_analyzer wrote no table of its figures, but {content[:200]!r}") from None


def _element(image: bytes) -> dict[str, object]:
    content = struct.pack("<I", len(image)) + image
    return {"b64": base64.b64encode(content).decode(), "shape": [1]}
