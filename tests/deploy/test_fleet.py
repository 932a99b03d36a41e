"""Three replicas behind HAProxy: what changes in one of them is not noticed in front."""

import asyncio
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.deploy.clients import DIGITS, Clients
from tests.deploy.haproxy import CONFIGURATION, Haproxy, running_haproxy
from tests.deploy.processes import free_port, wait_until
from tests.e2e.processes import ROOT, ServiceProcess, add_digits, running_service

ADMIN = {"x-api-key": "an admin's"}


class Replica:
    """One replica on a port that stays its own, whichever process runs there."""

    def __init__(self, *flags: str) -> None:
        self.port = free_port()
        self._flags = ("--port", str(self.port), "--drain-seconds", "2", *flags)
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        self.service: ServiceProcess = self._running.enter_context(running_service(*self._flags))

    def stop(self) -> None:
        """As a rollout does: SIGTERM, and patience."""
        self.service.terminate()
        assert self.service.process.wait(timeout=60) == 0
        assert self.service.wait_for("stopped")["lost_images"] == 0
        self._running.close()

    def kill(self) -> None:
        self._running.close()

    def load(self) -> int:
        url = f"{self.service.url}/v2/repository/models/digits/load"
        return httpx.post(url, headers=ADMIN, timeout=60).status_code

    def refused(self) -> float:
        return sum(n for name, n in self.service.metrics().items() if name.startswith("mixer_rejections_total"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    add_digits(tmp_path / "models")
    (tmp_path / "admin-keys").write_text(hashlib.sha256(ADMIN["x-api-key"].encode()).hexdigest())
    return tmp_path / "models"


@pytest.mark.anyio
async def test_a_fleet_under_load_loses_nothing(repository: Path) -> None:
    """New versions, rollouts and a SIGKILL, one replica after the other; one refuses whoever is not its only client."""
    flags = ("--model-repository", str(repository), "--admin-keys-file", str(repository.parent / "admin-keys"))
    with ExitStack() as stack:
        replicas = [Replica(*flags), Replica(*flags), Replica(*flags, "--max-inflight-images", "1")]
        for replica in replicas:
            stack.callback(replica.kill)
        haproxy = stack.enter_context(running_haproxy(*(replica.port for replica in replicas)))

        async def all_up() -> None:
            await asyncio.to_thread(wait_until, lambda: haproxy.up() == {"1", "2", "3"})

        await all_up()
        clients = Clients(haproxy.url, 8)

        async def start(replica: Replica) -> None:
            with clients.resting():
                await asyncio.to_thread(replica.start)
                await all_up()
            await clients.more_answers()

        await clients.more_answers()
        assert clients.versions.keys() == {"1"}

        add_digits(repository, "2")
        for replica in replicas:
            assert await asyncio.to_thread(replica.load) == 200
            await clients.more_answers()
        clients.versions.clear()  # those on their way may still be of the old one
        await clients.more_answers()
        clients.versions.clear()
        await clients.more_answers()
        assert clients.versions.keys() == {"2"}
        assert replicas[2].refused() > 0  # and nobody in front knows

        for replica in replicas:
            await asyncio.to_thread(replica.stop)
            await clients.more_answers()
            await start(replica)

        replicas[0].kill()
        await clients.more_answers(200)
        await asyncio.to_thread(wait_until, lambda: haproxy.up() == {"2", "3"})
        await start(replicas[0])

        await clients.stop()
        assert clients.outcomes.keys() == {"right"}
        assert haproxy.retries() > 0


# The configuration, before stand-ins that give one status each


@contextmanager
def standing_in(*statuses: int) -> Iterator[tuple[Haproxy, list[int]]]:
    """HAProxy before three that are ready and answer so, and how many requests each of them has had."""
    asked = [0] * len(statuses)

    def handler(number: int) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(200)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                asked[number] += 1
                self.answer(statuses[number])

            def answer(self, status: int) -> None:
                body = f'{{"status": {status}}}'.encode()
                self.send_response(status)
                self.send_header("Retry-After", "7")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    with ExitStack() as stack:
        servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(number)) for number in range(len(statuses))]
        for server in servers:
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield stack.enter_context(running_haproxy(*(server.server_port for server in servers))), asked


def post(haproxy: Haproxy, path: str = "/v1/classify", body: bytes = DIGITS[7][1]) -> httpx.Response:
    return httpx.post(haproxy.url + path, content=body, timeout=30)


@pytest.mark.parametrize("body", [DIGITS[7][1], bytes(900_000)], ids=["digit", "photograph"])
@pytest.mark.parametrize("refusal", [429, 502, 503])
def test_whoever_refuses_is_not_the_last_to_be_asked(refusal: int, body: bytes) -> None:
    with standing_in(refusal, refusal, 200) as (haproxy, asked):
        assert [post(haproxy, body=body).status_code for _ in range(12)] == [200] * 12
        assert asked[2] == 12
        assert asked[0] > 0
        assert asked[1] > 0


@pytest.mark.parametrize("refusal", [429, 503])
def test_when_all_refuse_the_client_gets_a_replicas_own_refusal(refusal: int) -> None:
    with standing_in(*[refusal] * 3) as (haproxy, asked):
        response = post(haproxy)
        assert (response.status_code, response.json()) == (refusal, {"status": refusal})
        assert response.headers["retry-after"] == "7"
        assert "x-refused" not in response.headers
        assert all(asked)


@pytest.mark.parametrize("answer", [400, 404, 413, 422, 500, 504])
def test_what_another_replica_would_say_too_is_not_asked_again(answer: int) -> None:
    with standing_in(*[answer] * 3) as (haproxy, asked):
        assert post(haproxy).status_code == answer
        assert sum(asked) == 1


def test_a_body_beyond_the_buffer_is_passed_on_once() -> None:
    with standing_in(429, 429, 429) as (haproxy, asked):
        assert post(haproxy, body=bytes(3 * 2**20)).status_code == 429
        assert sum(asked) == 1
    with standing_in(200, 200, 200) as (haproxy, asked):
        assert post(haproxy, body=bytes(3 * 2**20)).status_code == 200


def test_models_are_not_changed_in_one_replica_by_accident() -> None:
    with standing_in(200, 200, 200) as (haproxy, asked):
        for what in ("load", "unload"):
            response = post(haproxy, f"/v2/repository/models/digits/{what}")
            assert response.status_code == 403
            assert response.json() == {"error": "load and unload models on each replica itself"}
        assert sum(asked) == 0
        assert post(haproxy, "/v2/repository/index").status_code == 200


def test_without_a_replica_the_answer_is_json() -> None:
    with running_haproxy(free_port(), free_port(), free_port()) as haproxy:
        response = post(haproxy)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["error"]["code"] == "not_ready"


def test_the_docs_name_every_variable() -> None:
    used = set(re.findall(r"\$\{?([A-Z_]+[0-9]?)", CONFIGURATION.read_text()))
    rows = [line for line in (ROOT / "docs" / "fleet.md").read_text().splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([A-Z_]+[0-9]?)`", row.split("|")[1])} == used
