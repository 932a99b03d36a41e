"""The real service among connections that are too many, too slow or too eager, with a good client beside them."""

import http.client
import json
import re
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.processes import GOLDEN, ServiceProcess, running_service

DIGIT = (GOLDEN / "digit-7.png").read_bytes()
PATIENT = {"x-deadline-ms": "60000"}  # a slow machine is not what is tested
LIVE = b"GET /healthz/live HTTP/1.1\r\nhost: x\r\n\r\n"
MB = 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and Linux' limits")


def resident_bytes(service: ServiceProcess) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(kilobytes) * 1024


def held_bytes(service: ServiceProcess) -> int:
    """Of memory that is no file's, now."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    (kilobytes,) = re.findall(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    return int(kilobytes) * 1024


def open_files(service: ServiceProcess) -> int:
    return sum(1 for _ in Path(f"/proc/{service.process.pid}/fd").iterdir())


def connect(service: ServiceProcess, receive_bytes: int | None = None) -> socket.socket:
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(30)
    client.connect(("127.0.0.1", service.port))
    return client


def good_is_served(service: ServiceProcess) -> bool:
    answer = httpx.post(f"{service.url}/v1/classify", content=DIGIT, headers=PATIENT, timeout=60)
    return answer.status_code == 200 and answer.json()["predictions"][0]["label"] == "7"


def probes_are_answered(service: ServiceProcess) -> bool:
    urls = [f"{service.url}/healthz/live", f"{service.url}/healthz/ready"]
    urls.append(f"http://127.0.0.1:{service.metrics_port}/metrics")
    return all(httpx.get(url, timeout=30).status_code == 200 for url in urls)


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_service() as service:
        yield service


@pytest.mark.parametrize("reads", [True, False], ids=["reading", "not reading"])
def test_pipelined_requests_grow_nothing(service: ServiceProcess, reads: bool) -> None:
    before, stop = resident_bytes(service), threading.Event()

    def flood() -> None:
        with connect(service) as client:
            client.settimeout(0.2)
            while not stop.is_set():
                try:
                    client.send(LIVE * 1000)
                    while reads and client.recv(MB):
                        pass
                except TimeoutError:
                    pass
                except ConnectionError:
                    return

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        assert good_is_served(service)
        assert probes_are_answered(service)
    stop.set()
    for thread in threads:
        thread.join()
    assert resident_bytes(service) - before < 60 * MB


WHOLE = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(DIGIT), DIGIT)


@pytest.mark.parametrize("sent", [WHOLE, LIVE * 500], ids=["one request", "many requests"])
def test_connections_that_are_left_at_once_keep_nobody_waiting(service: ServiceProcess, sent: bytes) -> None:
    """The deadline is the default, of five seconds."""
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            with suppress(OSError), closing(connect(service)) as client:
                client.settimeout(1)
                client.sendall(sent)

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)  # until many wait
        answers = [httpx.post(f"{service.url}/v1/classify", content=DIGIT, timeout=60) for _ in range(10)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [answer.status_code for answer in answers] == [200] * 10


def binary(*images: bytes) -> tuple[bytes, dict[str, str]]:
    """A request of the Open Inference Protocol."""
    data = b"".join(len(image).to_bytes(4, "little") + image for image in images)
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [len(images)]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]}).encode()
    return head + data, {"inference-header-content-length": str(len(head))}


LARGE, DAMAGED = DIGIT + bytes(2 * MB), DIGIT[:100] + bytes(2 * MB)  # what is behind a PNG's end is passed over
REQUESTS = {
    "good": ("/v1/classify", LARGE, {}, 200),
    "damaged": ("/v1/classify", DAMAGED, {}, 422),
    "no image": ("/v1/classify", b"x" * 2 * MB, {}, 415),
    "no JSON": ("/v1/classify", b"{" + b"x" * 2 * MB, {"content-type": "application/json"}, 400),
    "no gzip": ("/v1/classify", LARGE, {"content-encoding": "gzip"}, 400),
    "no time": ("/v1/classify", LARGE, {"x-deadline-ms": "0.001"}, 429),
    "no route": ("/v1/nothing", LARGE, {}, 404),
    "features": ("/v1/features", LARGE, {}, 200),
    "one of two damaged": ("/v2/models/digits/infer", *binary(LARGE, DAMAGED), 422),
}


@pytest.mark.parametrize(("path", "body", "headers", "status"), REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("idle", [True, False], ids=["idle", "closed"])
def test_no_image_is_held_once_it_is_answered(
    service: ServiceProcess, idle: bool, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    with ExitStack() as clients:

        def ask() -> None:
            client = clients.enter_context(closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)))
            client.request("POST", path, body, headers)
            with client.getresponse() as response:
                response.read()
                assert response.status == status
            if not idle:
                client.close()

        ask()
        before = held_bytes(service)
        for _ in range(30):
            ask()
        assert held_bytes(service) - before < 15 * len(body)


def test_a_shutdown_does_not_wait_for_clients_that_do_not_read() -> None:
    with running_service("--drain-seconds", "0", "--deadline-ms", "1000") as service, ExitStack() as clients:
        for _ in range(10):
            client = clients.enter_context(connect(service, receive_bytes=4096))
            client.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n" * 40)
            assert client.recv(12) == b"HTTP/1.1 200"
        service.terminate()
        lines = []
        while not lines or not str(lines[-1]["message"]).startswith("stopped"):
            lines.append(service.next_line())
        assert service.process.wait(timeout=30) == 0
        assert [line["reason"] for line in lines if "reason" in line] == ["shutdown"] * 10


@pytest.fixture(scope="module")
def cramped() -> Iterator[ServiceProcess]:
    """A service that may have no more than 128 files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
        try:
            service = stack.enter_context(running_service())  # which inherits it
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        yield service


HELD = {
    "silent": b"",
    "in the head": b"GET / HT",
    "idle": LIVE,
    "uploading": b"POST /v1/classify HTTP/1.1\r\nhost: x\r\nx-deadline-ms: 60000\r\ncontent-length: 1000\r\n\r\nabc",
}


@pytest.mark.parametrize("sent", HELD.values(), ids=HELD.keys())
def test_descriptors_are_kept_for_probes_and_the_longest_idle_go(cramped: ServiceProcess, sent: bytes) -> None:
    ended = 'mixer_connections_ended_total{reason="idle"}'
    ended_before = cramped.metrics()[ended]
    with ExitStack() as clients:
        for _ in range(250):
            client = clients.enter_context(connect(cramped))
            with suppress(ConnectionError):  # it may be one of those that went
                client.sendall(sent)
        for _ in range(10):
            assert probes_are_answered(cramped)
        if not sent.startswith(b"POST"):  # which need not leave room for others at once
            assert good_is_served(cramped)
        metrics = cramped.metrics()
        assert metrics["mixer_connections"] < 128
        assert metrics[ended] - ended_before > 100
        assert open_files(cramped) < 128


def test_a_table_that_is_exhausted_all_the_same_is_logged_and_gets_over_it() -> None:
    with running_service() as service, ExitStack() as clients:
        for _ in range(20):
            client = clients.enter_context(connect(service))
            client.sendall(LIVE)
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        time.sleep(1.1)  # by then they count as idle
        pid, open_now = service.process.pid, open_files(service)
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now, hard))
        for _ in range(10):
            client = clients.enter_context(connect(service))
            client.sendall(LIVE)
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        service.terminate()
        lines = []
        while not lines or not str(lines[-1]["message"]).startswith("stopped"):
            lines.append(service.next_line())
        told = [line for line in lines if "cannot be accepted" in str(line["message"])]
        assert [line["level"] for line in told] == ["ERROR"]


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="IPv6 is missing")
def test_every_address_is_that_of_ipv6_and_ipv4() -> None:
    with running_service("--host", "::") as service:
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{service.port}/healthz/live").status_code == 200
            assert httpx.head(f"http://{host}:{service.metrics_port}/metrics").status_code == 200


def test_an_idle_connection_is_kept_as_long_as_is_said() -> None:
    with running_service("--keep-alive-seconds", "1") as service, connect(service) as client:
        client.sendall(LIVE)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        while client.recv(65536):
            pass
