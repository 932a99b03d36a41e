"""Debian's HAProxy with deploy/haproxy/haproxy.cfg, before replicas."""

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import httpx
import pytest

from tests.debian import CACHE, package_lock
from tests.deploy.processes import free_port, wait_until
from tests.e2e.processes import ROOT

CONFIGURATION = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
PACKAGES = ("haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")  # and what every Debian has


@dataclass
class Haproxy:
    url: str
    metrics_url: str

    def up(self) -> set[str]:
        """The replicas that get requests: "1", "2", "3"."""
        pattern = r'^haproxy_server_status\{proxy="replicas",server="(.)",state="UP"\} 1'
        return set(re.findall(pattern, self._metrics(), re.MULTILINE))

    def retries(self) -> int:
        """How many times another replica was asked."""
        pattern = r'^haproxy_server_(?:retry|redispatch)_warnings_total\{proxy="replicas",.*\} (\d+)'
        return sum(map(int, re.findall(pattern, self._metrics(), re.MULTILINE)))

    def _metrics(self) -> str:
        return httpx.get(f"{self.metrics_url}/metrics").text


@cache
def program() -> tuple[str, dict[str, str]]:
    """HAProxy and what it needs of the environment.

    Where it is missing, it is unpacked (not installed). Skips the test where that cannot be.
    """
    if found := shutil.which("haproxy"):
        return found, {}
    folder = CACHE / "haproxy"
    unpacked = folder / "usr" / "sbin" / "haproxy"
    with package_lock():
        if not unpacked.exists():
            if not shutil.which("apt-get"):
                pytest.skip("haproxy is missing, and there is no apt-get to fetch Debian's package with")
            folder.mkdir(parents=True, exist_ok=True)
            fetch = f"apt-get download {' '.join(PACKAGES)}"
            script = (
                f"{{ {fetch} || {{ apt-get update && {fetch}; }}; }} && for file in *.deb; do dpkg -x $file .; done"
            )
            result = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
            if result.returncode:
                pytest.skip(f"haproxy is missing, and Debian's package could not be fetched: {result.stderr[-600:]}")
    (libraries,) = {str(path.parent) for path in folder.glob("usr/lib/*/liblua5.3.so.0")}
    return str(unpacked), {"LD_LIBRARY_PATH": libraries}


@contextmanager
def running_haproxy(*replicas: int) -> Iterator[Haproxy]:
    """Before the replicas on these three ports of 127.0.0.1."""
    path, needed = program()
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    environment = {f"REPLICA_{number}": f"127.0.0.1:{port}" for number, port in enumerate(replicas, 1)}
    environment |= {"BIND": addresses[0], "METRICS_BIND": addresses[1], "FLEET": uuid.uuid4().hex}
    process = subprocess.Popen([path, "-db", "-f", str(CONFIGURATION)], env=os.environ | needed | environment)
    haproxy = Haproxy(*(f"http://{address}" for address in addresses))

    def listening() -> bool:
        assert process.poll() is None, f"haproxy ended with {process.returncode}"
        try:
            return httpx.get(f"{haproxy.metrics_url}/metrics").is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(listening)
        yield haproxy
    finally:
        process.kill()
        process.wait()
