"""The service under test, started for a benchmark that was given no URL."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from service.client import MixerClient

ROOT = Path(__file__).parent.parent


class OwnService(NamedTuple):
    """Where it is."""

    url: str  # of /v1/classify
    metrics_url: str
    pid: int


@contextmanager
def own_service(module: str = "service", *flags: str) -> Iterator[OwnService]:
    """`python -m MODULE FLAGS` on free ports, with the default settings for the rest.

    Raises RuntimeError with the service's log if it does not become ready within a minute.
    """
    port, metrics_port = _free_port(), _free_port()
    command = [sys.executable, "-m", module, "--host", "127.0.0.1", "--drain-seconds", "0"]
    ports = ["--port", str(port), "--metrics-port", str(metrics_port)]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen([*command, *ports, *flags], cwd=ROOT, stderr=log) as process,
    ):
        try:
            if not _becomes_ready(process, f"http://127.0.0.1:{port}"):
                log.seek(0)
                raise RuntimeError(f"the service did not become ready:\n{log.read()}")
            base = f"http://127.0.0.1:{port}"
            yield OwnService(f"{base}/v1/classify", f"http://127.0.0.1:{metrics_port}/metrics", process.pid)
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _becomes_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    end = time.monotonic() + 60
    with MixerClient(url, timeout=5) as client:
        while process.poll() is None and time.monotonic() < end:
            if client.ready():
                return True
            time.sleep(0.1)
    return False
