"""/metrics as Prometheus, curl and silent clients find it."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from service.edge import metrics_server
from service.edge.metrics_server import start_metrics_server


@pytest.fixture
def port() -> Iterator[int]:
    registry = CollectorRegistry()
    Gauge("answer", "To everything.", registry=registry).set(42)
    server = start_metrics_server(0, "127.0.0.1", registry)
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_head_is_get_without_its_body(port: int) -> None:
    url = f"http://127.0.0.1:{port}/metrics"
    got, head = httpx.get(url), httpx.head(url)
    assert (got.status_code, head.status_code) == (200, 200)
    assert "answer 42.0" in got.text
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("HEAD", "/metrics", headers={"accept-encoding": "identity"})
    answer = connection.getresponse()
    assert answer.getheader("content-length") == str(len(httpx.get(url, headers={"accept-encoding": "identity"}).text))
    connection.close()
    assert httpx.post(url).status_code == 405


def test_clients_that_are_silent_keep_nobody_out(port: int) -> None:
    with ExitStack() as silent:
        clients = [
            silent.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(3 * metrics_server.MOST)
        ]
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 200
        for client in clients[: 2 * metrics_server.MOST]:
            assert client.recv(100) == b"", "the oldest were closed"


def test_a_silent_client_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        assert client.recv(100) == b""


def test_every_address_is_ipv4s_as_well() -> None:
    try:
        server = start_metrics_server(0, "::", CollectorRegistry())
    except OSError:
        pytest.skip("IPv6 is missing")
    for host in ("127.0.0.1", "[::1]"):
        assert httpx.get(f"http://{host}:{server.server_port}/metrics").status_code == 200
    server.shutdown()
    server.server_close()
