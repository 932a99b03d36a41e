"""A real Prometheus that scrapes a real service, and clients that keep it busy."""

import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.debian import debian_program
from tests.e2e.processes import ROOT, ServiceProcess

RULES = ROOT / "deploy" / "prometheus" / "rules"


@dataclass
class Prometheus:
    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector: labels under `metric`, time and value under `value`."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def alerts(self) -> dict[str, str]:
        """State (pending, firing) of those that are not silent."""
        found = httpx.get(f"{self.url}/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert["state"] for alert in found}


@contextmanager
def running_prometheus(service: ServiceProcess, scratch: Path, rules: Path = RULES) -> Iterator[Prometheus]:
    """Debian's Prometheus, which scrapes the service and evaluates the rules once a second."""
    shutil.copytree(rules, scratch / "rules")
    config = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (mixer,) = (one for one in config["scrape_configs"] if one["job_name"] == "mixer")
    del mixer["dns_sd_configs"]
    mixer["static_configs"] = [{"targets": [f"127.0.0.1:{service.metrics_port}"]}]
    config["scrape_configs"] = [mixer]
    (scratch / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with (scratch / "log").open("w") as log:
        process = subprocess.Popen(
            [
                debian_program("prometheus", "prometheus"),
                f"--config.file={scratch / 'prometheus.yml'}",
                f"--storage.tsdb.path={scratch / 'data'}",
                f"--web.listen-address={address}",
            ],
            stderr=log,
        )
    prometheus = Prometheus(f"http://{address}")

    def ready() -> bool:
        assert process.poll() is None, (scratch / "log").read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"{prometheus.url}/-/ready").is_success
        return False

    try:
        wait_until(ready)
        yield prometheus
    finally:
        process.kill()
        process.wait()


@contextmanager
def load(
    service: ServiceProcess, clients: int, bodies: list[bytes], query: str = "", headers: dict[str, str] | None = None
) -> Iterator[None]:
    """Clients that post one body after another, each soon after it has an answer, for the length of the block."""
    over = threading.Event()

    def client(number: int) -> None:
        with httpx.Client(timeout=60, headers=headers) as http:
            while not over.is_set():
                http.post(f"{service.url}/v1/classify{query}", content=bodies[number % len(bodies)])
                number += 1
                over.wait(0.005)  # or whoever is refused at once would take a core to ask again

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def free_port() -> int:
    """One of 127.0.0.1's, below those that connections get, so that none takes it before somebody listens there."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], bool], seconds: float = 90) -> None:
    """Look again and again, and fail only after far longer than it should take."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.2)
