"""docker-compose.yml brings up what it says: a service that Prometheus scrapes."""

import asyncio
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml

from tests.deploy.clients import Clients
from tests.deploy.docker import ROOT, Docker
from tests.deploy.processes import wait_until

GRAFANA = ROOT / "deploy" / "grafana"


class Stack:
    """The services of docker-compose.yml whose images can be had here."""

    def __init__(self, docker: Docker, name: str, *files: str) -> None:
        self.docker = docker
        self.flags = ("--project-name", name)
        for file in ("docker-compose.yml", *files, "tests/deploy/compose.yml"):
            self.flags += ("--file", file)

    def compose(self, *arguments: str) -> str:
        return self.docker("compose", *self.flags, *arguments)

    def url(self, service: str, port: int) -> str:
        return f"http://{self.compose('port', service, str(port))}"

    def query(self, expression: str) -> list[float]:
        """What Prometheus answers now."""
        parameters = urllib.parse.urlencode({"query": expression})
        return [float(sample["value"][1]) for sample in self.prometheus(f"query?{parameters}")["result"]]

    def prometheus(self, path: str) -> dict[str, list[dict[str, list[str]]]]:
        with urllib.request.urlopen(f"{self.url('prometheus', 9090)}/api/v1/{path}", timeout=10) as response:
            data: dict[str, list[dict[str, list[str]]]] = json.load(response)["data"]
        return data

    def wait_for(self, expression: str) -> list[float]:
        """Until Prometheus has an answer."""
        end = time.monotonic() + 60
        while not (values := self.query(expression)):
            assert time.monotonic() < end, f"Prometheus never had {expression}"
            time.sleep(0.5)
        return values


@pytest.fixture(scope="module")
def stack(docker: Docker, image: str) -> Iterator[Stack]:
    if docker.call("compose", "version")[0] != 0:
        pytest.skip("the Docker engine that runs here has no `docker compose`")
    prometheus = docker.public_image("prom/prometheus:v3.5.0", "prometheus")
    free_ports = {"PORT": "0", "PROMETHEUS_PORT": "0", "GRAFANA_PORT": "0"}
    images = {"IMAGE": image, "PROMETHEUS_IMAGE": prometheus}
    stack = Stack(replace(docker, environment=docker.environment | free_ports | images), "mixer-test")
    try:
        stack.compose("up", "--detach", "--wait", "--no-build", "mixer", "prometheus")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "1")


def test_prometheus_scrapes_the_service(stack: Stack) -> None:
    assert stack.wait_for('up{job="mixer"} == 1') == [1]
    request = urllib.request.Request(
        f"{stack.url('mixer', 8000)}/v1/classify", (ROOT / "models/digits/1/golden/digit-7.png").read_bytes()
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["predictions"][0]["label"] == "7"
    assert stack.wait_for('mixer_images_total{model="digits",version="1",outcome="ok"} > 0') == [1]
    assert stack.query("mixer_cores") == [1]


def test_every_rule_file_is_loaded(stack: Stack) -> None:
    loaded = {Path(str(group["file"])).name for group in stack.prometheus("rules")["groups"]}
    assert loaded == {path.name for path in (ROOT / "deploy/prometheus/rules").glob("*.yml")}


def test_stopping_it_drains(stack: Stack) -> None:
    container = stack.compose("ps", "--quiet", "mixer")
    stack.compose("stop", "mixer")
    assert stack.docker.inspect(container, "{{.State.ExitCode}}") == "0"
    stack.compose("start", "mixer")


@pytest.fixture(scope="module")
def fleet(docker: Docker, image: str) -> Iterator[Stack]:
    """Three replicas behind HAProxy."""
    haproxy = docker.public_image("haproxy:3.2", "haproxy")
    environment = {"PORT": "0", "IMAGE": image, "HAPROXY_IMAGE": haproxy}
    engine = replace(docker, environment=docker.environment | environment)
    stack = Stack(engine, "mixer-fleet", "deploy/haproxy/compose.yml")
    if docker.call("compose", "version")[0] != 0:
        pytest.skip("the Docker engine that runs here has no `docker compose`")
    try:
        stack.compose("up", "--detach", "--wait", "--no-build", "mixer", "haproxy")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "1")


def answers(url: str) -> bool:
    """Whether HAProxy has found a replica; it asks for their names when it runs."""
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/healthz/ready").is_success
    return False


@pytest.mark.anyio
async def test_a_fleet_loses_nothing_when_a_replica_is_restarted_or_killed(fleet: Stack) -> None:
    docker = fleet.docker
    url = fleet.url("haproxy", 8080)
    await asyncio.to_thread(wait_until, lambda: answers(url))
    clients = Clients(url, 6)
    await clients.more_answers()

    async def healthy(container: str) -> None:
        with clients.resting():
            await asyncio.to_thread(docker.wait_until, container, "{{.State.Health.Status}}", "healthy")
        await clients.more_answers()

    await asyncio.to_thread(docker, "restart", "--time", "20", "mixer-fleet-mixer-1")
    await healthy("mixer-fleet-mixer-1")
    await asyncio.to_thread(docker, "kill", "mixer-fleet-mixer-2")
    await clients.more_answers(200)
    await asyncio.to_thread(docker, "start", "mixer-fleet-mixer-2")
    await healthy("mixer-fleet-mixer-2")
    await clients.stop()
    assert clients.outcomes.keys() == {"right"}


@pytest.fixture(scope="module")
def configuration() -> dict[str, dict[str, dict[str, object]]]:
    content: dict[str, dict[str, dict[str, object]]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


def test_every_service_is_hardened(configuration: dict[str, dict[str, dict[str, object]]]) -> None:
    for service in (*configuration["services"].values(), in_front()):
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == "unless-stopped"
        assert {"mem_limit", "pids_limit"} <= service.keys()
        assert all(str(port).startswith("127.0.0.1:") for port in service["ports"])  # type: ignore[attr-defined]


def in_front() -> dict[str, object]:
    """HAProxy's part of deploy/haproxy/compose.yml, of whose tags `!reset` is Compose's own."""
    text = (ROOT / "deploy" / "haproxy" / "compose.yml").read_text().replace("!reset ", "")
    service: dict[str, object] = yaml.safe_load(text)["services"]["haproxy"]
    return service


def test_the_drain_fits_in_the_time_to_stop(configuration: dict[str, dict[str, dict[str, object]]]) -> None:
    service = configuration["services"]["mixer"]
    environment: dict[str, float] = service["environment"]  # type: ignore[assignment]
    longest = environment["MIXER_DRAIN_SECONDS"] + environment["MIXER_DEADLINE_MS"] / 1000
    assert int(str(service["stop_grace_period"]).removesuffix("s")) >= longest + 5


def test_grafana_is_given_what_its_provisioning_names(configuration: dict[str, dict[str, dict[str, object]]]) -> None:
    """Checked in the files: there is no Grafana to run where no registry can be reached."""
    mounts = [str(volume).split(":") for volume in configuration["services"]["grafana"]["volumes"]]  # type: ignore[attr-defined]
    inside = {target: ROOT / source for source, target, *_ in mounts}
    provisioning = inside["/etc/grafana/provisioning"]
    (source,) = (yaml.safe_load(path.read_text()) for path in (provisioning / "datasources").glob("*.yml"))
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    (provider,) = (yaml.safe_load(path.read_text()) for path in (provisioning / "dashboards").glob("*.yml"))
    assert list(inside[provider["providers"][0]["options"]["path"]].glob("*.json"))
