"""The servers under test, started for a benchmark that was given no URL."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx

ROOT = Path(__file__).parent.parent.parent

_READY = 300  # seconds at most: a large model measures its passes for a minute and more


class OwnService(NamedTuple):
    """Where it is."""

    url: str  # of /v1/classify
    metrics_url: str
    pid: int
    grpc_address: str = ""  # if it was asked for


class PlainServer(NamedTuple):
    """Where it is."""

    url: str  # of /predict
    pid: int


@contextmanager
def own_service(module: str = "service", *flags: str, grpc: bool = False) -> Iterator[OwnService]:
    """`python -m MODULE FLAGS` on free ports, one of `grpc` among them, with the default settings for the rest.

    Raises RuntimeError with the service's log if it does not become ready within five minutes.
    """
    port, metrics_port, grpc_port = _free_port(), _free_port(), _free_port()
    base = f"http://127.0.0.1:{port}"
    ports = ["--port", str(port), "--metrics-port", str(metrics_port)]
    if grpc:
        ports += ["--grpc-port", str(grpc_port)]
    command = [module, "--host", "127.0.0.1", "--drain-seconds", "0", *ports, *flags]
    with _running(command, f"{base}/healthz/ready") as pid:
        metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        yield OwnService(f"{base}/v1/classify", metrics_url, pid, f"127.0.0.1:{grpc_port}" if grpc else "")


@contextmanager
def plain_server(bundle: Path) -> Iterator[PlainServer]:
    """`python -m benchmarks.servers.plain` on a free port. Raises RuntimeError as `own_service` does."""
    port = _free_port()
    command = ["benchmarks.servers.plain", "--bundle", str(bundle), "--port", str(port)]
    with _running(command, f"http://127.0.0.1:{port}/health") as pid:
        yield PlainServer(f"http://127.0.0.1:{port}/predict", pid)


@contextmanager
def _running(command: Sequence[str], ready_url: str) -> Iterator[int]:
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stderr=log) as process,
    ):
        try:
            if not _becomes_ready(process, ready_url):
                log.seek(0)
                raise RuntimeError(f"{command[0]} did not become ready:\n{log.read()}")
            yield process.pid
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _becomes_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    end = time.monotonic() + _READY
    with httpx.Client(timeout=5, trust_env=False) as client:
        while process.poll() is None and time.monotonic() < end:
            with suppress(httpx.HTTPError):
                if client.get(url).is_success:
                    return True
            time.sleep(0.1)
    return False
