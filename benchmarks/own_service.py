"""The service under test, started for a benchmark that was given no URL."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.client import MixerClient

ROOT = Path(__file__).parent.parent


@contextmanager
def own_service(module: str = "service") -> Iterator[tuple[str, str]]:
    """`python -m MODULE` with the default settings on free ports; yields its classify and metrics URLs.

    Raises RuntimeError with the service's log if it does not become ready within a minute.
    """
    port, metrics_port = _free_port(), _free_port()
    command = [sys.executable, "-m", module, "--host", "127.0.0.1", "--drain-seconds", "0"]
    ports = ["--port", str(port), "--metrics-port", str(metrics_port)]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen([*command, *ports], cwd=ROOT, stderr=log) as process:
        try:
            if not _becomes_ready(process, f"http://127.0.0.1:{port}"):
                log.seek(0)
                raise RuntimeError(f"the service did not become ready:\n{log.read()}")
            yield f"http://127.0.0.1:{port}/v1/classify", f"http://127.0.0.1:{metrics_port}/metrics"
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
