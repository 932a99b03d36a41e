"""The Deployment's own YAML as running pods, behind a Service's port, through a rollout."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.deploy.clients import Clients
from tests.deploy.docker import Docker
from tests.deploy.kustomization import Manifest, Rendered, compose, render
from tests.deploy.podman import Podman, podman_engine
from tests.deploy.processes import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman_engine(tmp_path_factory.mktemp("podman")) as podman:
        yield podman


@pytest.fixture(scope="module")
def image(podman: Podman, docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Dockerfile's image, brought into Podman's storage."""
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    docker("save", "--output", str(archive), image, timeout=300)
    loaded = podman("load", "--quiet", "--input", str(archive), timeout=300)
    archive.unlink()
    return loaded.removeprefix("Loaded image: ")


def pod_manifests(rendered: Rendered, image: str, name: str, port: int) -> list[Manifest]:
    """The rendered ConfigMap and Deployment, changed only where the cluster is another: image, name, node's port."""
    settings, deployment = copy.deepcopy([rendered.one("ConfigMap"), rendered.one("Deployment")])
    deployment["metadata"]["name"] = name
    deployment["spec"]["replicas"] = 1
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["image"] = image
    container["ports"] = [{**container["ports"][0], "hostPort": port, "hostIP": "127.0.0.1"}]
    return [settings, deployment]


async def probe_until(container: Manifest, name: str, port: int, status: int) -> None:
    """Do as the kubelet does with a probe, until it gives `status`; fails when the probe's patience ends."""
    probe = container[name]
    async with httpx.AsyncClient(timeout=probe["timeoutSeconds"]) as client:
        for _ in range(probe["failureThreshold"] if name == "startupProbe" else 100):
            try:
                response = await client.get(f"http://127.0.0.1:{port}{probe['httpGet']['path']}")
                if response.status_code == status:
                    return
            except httpx.TransportError:
                pass  # nothing listens yet
            await asyncio.sleep(probe["periodSeconds"] / 10)
    raise AssertionError(f"{name} never gave {status}")


class ServicePort:
    """What kube-proxy makes of a Service: each connection goes to one of the endpoints, in turn."""

    def __init__(self, *endpoints: int) -> None:
        self.endpoints = list(endpoints)
        self.url = ""
        self._connections = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["ServicePort"]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        endpoint = self.endpoints[self._connections % len(self.endpoints)]
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", endpoint)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(self._pump(reader, inner_writer), self._pump(inner_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


def assert_runs_as_written(podman: Podman, container: str, rendered: Rendered) -> None:
    """Security context, settings and cores, as the kernel and the service see them."""
    process = Path("/proc", podman.inspect(container, "{{.State.Pid}}"))
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    assert status["Uid"].split()[0] == str(rendered.pod["securityContext"]["runAsUser"])
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    root = next(line.split() for line in (process / "mountinfo").read_text().splitlines() if line.split()[4] == "/")
    assert root[5].split(",")[0] == "ro"
    environment = dict(line.split("=", 1) for line in (process / "environ").read_text().split("\0") if line)
    assert rendered.settings.items() <= environment.items()
    (serving,) = (line for line in map(json.loads, podman.logs(container)) if line["message"].startswith("serving "))
    assert (serving["lanes"], serving["lane_threads"]) == (int(rendered.container["resources"]["limits"]["cpu"]), 1)


async def test_a_rollout_under_load_loses_nothing(podman: Podman, image: str, tmp_path: Path) -> None:
    """A second pod starts, is ready, the first is deleted; the Service learns of it only later, as in a cluster."""
    rendered = render(compose(tmp_path / "overlay", "cpu"))
    grace = str(rendered.pod["terminationGracePeriodSeconds"])
    old_port, new_port = free_port(), free_port()
    with podman.pod(tmp_path, *pod_manifests(rendered, image, "mixer-old", old_port)) as old:
        await probe_until(rendered.container, "startupProbe", old_port, 200)
        await probe_until(rendered.container, "livenessProbe", old_port, 200)
        assert_runs_as_written(podman, old, rendered)
        async with ServicePort(old_port).listening() as service:
            clients = Clients(service.url, 8)
            await clients.more_answers()
            with podman.pod(tmp_path, *pod_manifests(rendered, image, "mixer-new", new_port)):
                await probe_until(rendered.container, "startupProbe", new_port, 200)
                service.endpoints.append(new_port)
                await clients.more_answers()
                deletion = asyncio.create_task(asyncio.to_thread(podman, "stop", "--time", grace, old))
                await probe_until(rendered.container, "readinessProbe", old_port, 503)
                await clients.more_answers()  # of both: nobody has told the Service yet
                service.endpoints.remove(old_port)
                await deletion
                await clients.more_answers()
                await clients.stop()
                assert clients.outcomes.keys() == {"right"}
                assert podman.inspect(old, "{{.State.ExitCode}} {{.State.OOMKilled}}") == "0 false"
                assert json.loads(podman.logs(old)[-1])["lost_images"] == 0
