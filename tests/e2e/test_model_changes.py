"""Models come and go in a real process, under real clients."""

import asyncio
import fcntl
import hashlib
import shutil
import signal
from collections import Counter
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.e2e.processes import GOLDEN, ServiceProcess, add_digits, running_service

pytestmark = pytest.mark.anyio

SEVEN = (GOLDEN / "digit-7.png").read_bytes()
PATIENT = {"x-deadline-ms": "60000"}  # a slow machine is not what is tested
ADMIN = {"x-api-key": "an admin's"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    add_digits(tmp_path / "models")
    (tmp_path / "admin-keys").write_text(hashlib.sha256(ADMIN["x-api-key"].encode()).hexdigest())
    return tmp_path / "models"


def flags(repository: Path) -> list[str]:
    return ["--model-repository", str(repository), "--admin-keys-file", str(repository.parent / "admin-keys")]


def change(service: ServiceProcess, what: str, model: str = "digits") -> httpx.Response:
    return httpx.post(f"{service.url}/v2/repository/models/{model}/{what}", headers=ADMIN, timeout=60)


class HeldFile:
    """Whoever opens `path` waits in that call until this is closed (a lease, fcntl(2))."""

    def __init__(self, path: Path) -> None:
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel also tells of the wait by a signal
        self._file = path.open()
        fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    async def awaited(self) -> None:
        async with asyncio.timeout(30):
            while fcntl.fcntl(self._file, fcntl.F_GETLEASE) == fcntl.F_WRLCK:
                await asyncio.sleep(0.01)

    def close(self) -> None:
        self._file.close()


def index(service: ServiceProcess) -> list[dict[str, str]]:
    states: list[dict[str, str]] = httpx.post(f"{service.url}/v2/repository/index").json()
    return states


def answer(service: ServiceProcess, query: str = "") -> str:
    """The label of a seven, which says what model's and version's it is."""
    response = httpx.post(f"{service.url}/v1/classify{query}", content=SEVEN)
    assert response.status_code == 200, response.text
    return str(response.json()["predictions"][0]["label"])


class Clients:
    """Keep-alive clients that post a seven one after another, until told to stop."""

    def __init__(self, service: ServiceProcess, clients: int = 16) -> None:
        self.answers: Counter[str] = Counter()
        self._service = service
        self._stopped = False
        self._changed = asyncio.Condition()
        self._tasks = [asyncio.create_task(self._client()) for _ in range(clients)]

    async def _client(self) -> None:
        async with httpx.AsyncClient(base_url=self._service.url, timeout=60, headers=PATIENT) as client:
            while not self._stopped:
                response = await client.post("/v1/classify", content=SEVEN)
                body = response.json()
                right = response.status_code == 200
                label = body["predictions"][0]["label"] if right else response.text
                if right and not label.startswith("{name}/{version} ".format(**body["model"])):
                    label = f"{label} of {body['model']}"
                self.answers[label] += 1
                async with self._changed:
                    self._changed.notify_all()

    async def answered(self, label: str, count: int = 1) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: self.answers[label] >= count)

    async def stop(self) -> None:
        self._stopped = True
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)


async def test_a_reload_under_load_fails_no_request_and_a_corrupt_bundle_changes_nothing(repository: Path) -> None:
    with running_service(*flags(repository)) as service:
        clients = Clients(service)
        await clients.answered("digits/1 7", 50)
        add_digits(repository, "2")
        response = await asyncio.to_thread(change, service, "load")
        assert response.status_code == 200
        clients.answers.clear()  # those on their way may still be of the old one
        await clients.answered("digits/2 7", 100)
        assert clients.answers.keys() <= {"digits/1 7", "digits/2 7"}
        clients.answers.clear()
        await clients.answered("digits/2 7", 50)
        (add_digits(repository, "3") / "labels.txt").write_text("tampered")
        response = await asyncio.to_thread(change, service, "load")
        assert response.status_code == 409
        assert response.json()["error"].startswith("digits/3: digits/3/labels.txt: sha256 ")
        await clients.answered("digits/2 7", clients.answers["digits/2 7"] + 50)
        await clients.stop()
        assert clients.answers.keys() == {"digits/2 7"}
        metrics = service.metrics()
        outcomes = {name for name, value in metrics.items() if name.startswith("mixer_images_total") and value}
        assert outcomes == {'mixer_images_total{model="digits",outcome="ok",version="2"}'}
        of_model = {name for name in metrics if 'model="digits"' in name}
        assert {name.partition("{")[0] for name in of_model if 'version="2"' not in name} == {"mixer_model_loads_total"}


async def test_sighup_reads_the_repository_again(repository: Path) -> None:
    add_digits(repository, "1", "other")
    with running_service(*flags(repository), "--drain-seconds", "0") as service:
        assert answer(service, "?model=other") == "other/1 7"
        add_digits(repository, "10")
        add_digits(repository, "1", "another")
        shutil.rmtree(repository / "other")
        service.process.send_signal(signal.SIGHUP)
        assert service.wait_for("reloaded")["serving"] == ["another/1", "digits/10"]
        assert answer(service, "?model=digits") == "digits/10 7"
        assert answer(service) == "another/1 7"
        assert "other" not in {state["name"] for state in index(service)}
        assert change(service, "unload", "another").status_code == 200
        assert answer(service) == "digits/10 7"
        service.terminate()
        assert service.process.wait(timeout=30) == 0


async def test_two_versions_at_once(repository: Path) -> None:
    add_digits(repository, "2")
    with running_service(*flags(repository), "--models", "digits/1,digits") as service:
        assert [answer(service, query) for query in ("", "?model=digits", "?version=1", "?version=2")] == [
            "digits/2 7", "digits/2 7", "digits/1 7", "digits/2 7"
        ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_shutdown_in_the_middle_of_a_load_drains_and_exits(repository: Path, number: signal.Signals) -> None:
    with running_service(*flags(repository), "--drain-seconds", "0") as service:
        labels = HeldFile(add_digits(repository, "2") / "labels.txt")
        load = asyncio.create_task(asyncio.to_thread(change, service, "load"))
        await labels.awaited()
        service.process.send_signal(number)
        response = await load
        assert (response.status_code, response.json()) == (503, {"error": "the service is shutting down"})
        assert service.wait_for("stopped")["lost_images"] == 0
        assert service.process.wait(timeout=30) == 0
        labels.close()


async def test_signals_while_the_models_load_at_start(repository: Path) -> None:
    """SIGHUP waits until the service serves; SIGTERM ends the process at once, with 0."""
    path = repository / "digits" / "1" / "labels.txt"
    with closing(HeldFile(path)) as labels, running_service(*flags(repository), listening=False) as service:
        await labels.awaited()
        service.process.send_signal(signal.SIGHUP)
        add_digits(repository, "2")
        labels.close()
        service.wait_for("listening")
        service.wait_for("received SIGHUP")
        assert service.wait_for("reloaded")["serving"] == ["digits/2"]
    only = (*flags(repository), "--models", "digits/1")
    with closing(HeldFile(path)) as labels, running_service(*only, listening=False) as service:
        await labels.awaited()
        service.terminate()
        assert service.process.wait(timeout=30) == 0


async def test_reloading_again_and_again_takes_no_more_memory(repository: Path) -> None:
    with running_service(*flags(repository)) as service:

        def reload(version: int) -> int:
            add_digits(repository, str(version))
            assert change(service, "load").status_code == 200
            shutil.rmtree(repository / "digits" / str(version - 1))
            assert answer(service) == f"digits/{version} 7"
            return int(service.metrics()["process_resident_memory_bytes"])

        resident = [reload(version) for version in range(2, 14)]
        assert min(resident[-3:]) < max(resident[:3]) + 10 * 2**20
