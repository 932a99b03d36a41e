"""The servers under test, started for a benchmark that was given no URL."""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx

ROOT = Path(__file__).parent.parent.parent

_PYTHON = (sys.executable, "-m")
_READY = 300  # seconds at most: a large model measures its passes for a minute and more


class OwnService(NamedTuple):
    """Where it is."""

    url: str  # of /v1/classify
    metrics_url: str
    pid: int
    grpc_address: str = ""  # if it was asked for


@contextmanager
def own_service(module: str = "service", *flags: str, grpc: bool = False) -> Iterator[OwnService]:
    """`python -m MODULE FLAGS` on free ports, one of `grpc` among them, with the default settings for the rest.

    Raises RuntimeError with the service's log if it does not become ready within five minutes.
    """
    port, metrics_port, grpc_port = free_port(), free_port(), free_port()
    base = f"http://127.0.0.1:{port}"
    ports = ["--port", str(port), "--metrics-port", str(metrics_port)]
    if grpc:
        ports += ["--grpc-port", str(grpc_port)]
    command = [module, "--host", "127.0.0.1", "--drain-seconds", "0", *ports, *flags]
    with running([*_PYTHON, *command], lambda: _is_success(f"{base}/healthz/ready")) as pid:
        metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        yield OwnService(f"{base}/v1/classify", metrics_url, pid, f"127.0.0.1:{grpc_port}" if grpc else "")


@contextmanager
def plain_server(bundle: Path) -> Iterator[tuple[str, int]]:
    """`python -m benchmarks.servers.plain` on a free port.

    Yields the URL of its /predict and its process. Raises RuntimeError as `own_service` does.
    """
    port = free_port()
    command = ["benchmarks.servers.plain", "--bundle", str(bundle), "--port", str(port)]
    with running([*_PYTHON, *command], lambda: _is_success(f"http://127.0.0.1:{port}/health")) as pid:
        yield f"http://127.0.0.1:{port}/predict", pid


@contextmanager
def running(
    command: Sequence[str],
    is_ready: Callable[[], bool],
    end: Callable[[subprocess.Popen[bytes]], None] = subprocess.Popen.terminate,
    environment: Mapping[str, str] | None = None,
    process_group: int | None = None,
) -> Iterator[int]:
    """A command, from when it is ready until `end` has ended it; its process.

    `environment` is added to this one's. Raises RuntimeError as `own_service` does.
    """
    variables = {**os.environ, **(environment or {})}
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=log, stderr=log, process_group=process_group
        ) as process,
    ):
        try:
            if not _becomes_ready(process, is_ready):
                log.seek(0)
                raise RuntimeError(f"{shlex.join(command)} did not become ready:\n{log.read()}")
            yield process.pid
        finally:
            end(process)


def free_port() -> int:
    """One of 127.0.0.1's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _becomes_ready(process: subprocess.Popen[bytes], is_ready: Callable[[], bool]) -> bool:
    end = time.monotonic() + _READY
    while process.poll() is None and time.monotonic() < end:
        with suppress(httpx.HTTPError):
            if is_ready():
                return True
        time.sleep(0.1)
    return False


def _is_success(url: str) -> bool:
    return httpx.get(url, timeout=5, trust_env=False).is_success
