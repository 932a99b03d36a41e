"""Bytes in, bytes out: what is asked of the protocol on real sockets, and so of the parts of uvicorn it rests on."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.edge import connection as http_protocol
from service.edge import reading, uploads
from service.edge.connection import HttpProtocol
from service.edge.connection_table import ConnectionTable
from service.edge.uploads import Uploads
from service.metrics import Metrics

pytestmark = pytest.mark.anyio

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Application:
    """Says what it got; /early answers before it reads, /gate once the test opens it, /leave never."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.left: list[str] = []
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.disconnected = asyncio.Event()
        self.port = 0
        self.metrics = Metrics()
        self.uploads = Uploads(most_bytes=2**28, least_rate=500)
        self.table = ConnectionTable(1000, self.uploads, self.metrics.connections_ended)

    def ended(self, reason: str) -> float:
        """Connections that were ended for this reason."""
        labels = {"reason": reason}
        return self.metrics.registry.get_sample_value("mixer_connections_ended_total", labels) or 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.served.append(scope["path"])
        self.entered.set()
        body = b""
        if scope["path"] != "/early":
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.disconnected.set()
                    return
                body += message["body"]
                more = message["more_body"]
        scope["mixer.on_leave"](lambda: self.left.append(scope["path"]))
        if scope["path"] == "/leave":
            await self.gate.wait()
            scope["mixer.on_leave"](lambda: self.left.append("told again"))
            return
        if scope["path"] == "/gate":
            await self.gate.wait()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        got = {"method": scope["method"], "path": scope["path"], "body": body.decode(), "headers": headers}
        answer = json.dumps(got).encode()
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    application = Application()
    protocol: Any = partial(HttpProtocol, table=application.table, deadline_seconds=5.0)
    config = uvicorn.Config(
        application, port=0, http=protocol, ws="none", lifespan="off", log_config=None, timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
        application.port = server.servers[0].sockets[0].getsockname()[1]
    yield application
    server.should_exit = True
    await serving


@asynccontextmanager
async def connected(application: Application) -> AsyncIterator[Client]:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", application.port)
        try:
            yield reader, writer
        finally:
            writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict[str, object]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, json.loads(await reader.readexactly(int(headers["content-length"])))


POST = b"POST %b HTTP/1.1\r\nhost: x\r\n%b\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\nhost: x\n\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
        b"GET / HTTP/0.9\r\nhost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nz\r\n",
        b"CONNECT example.org:80 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # a TLS greeting
    ],
)
async def test_what_is_not_http_gets_a_json_error_and_the_connection_ends(
    application: Application, sent: bytes
) -> None:
    async with connected(application) as (reader, writer):
        writer.write(sent)
        status, headers, body = await answer_of(reader)
        assert (status, headers["content-type"], headers["connection"]) == (400, "application/json", "close")
        assert body["error"]["code"] == "malformed_request"
        assert body["error"]["reason"] == "http"
        assert await reader.read() == b""


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        (b"1.1", [], 400),
        (b"1.1", [b"a", b"b"], 400),
        (b"1.1", [b"a", b"a"], 400),
        (b"1.1", [b"a b"], 400),
        (b"1.1", [b"user@a"], 400),
        (b"1.1", [b"a/b"], 400),
        (b"1.1", [b"a, b"], 400),
        (b"1.0", [b"a", b"a"], 400),
        (b"1.0", [], 200),
        (b"1.1", [b""], 200),
        (b"1.1", [b"Example-1.org:8000"], 200),
        (b"1.1", [b"[::1]:8000"], 200),
        (b"1.1", [b"mixer_serving.default.svc"], 200),
    ],
)
@pytest.mark.parametrize("more", [b"", b"connection: upgrade\r\nupgrade: h2c\r\n"], ids=["plain", "upgrade"])
async def test_a_request_has_one_host(
    application: Application, version: bytes, hosts: list[bytes], status: int, more: bytes
) -> None:
    lines = b"".join(b"Host: %b\r\n" % host for host in hosts) + more
    async with connected(application) as (reader, writer):
        writer.write(b"GET / HTTP/%b\r\n%b\r\n" % (version, lines))
        answered, _, body = await answer_of(reader)
        assert answered == status
        if status == 400:
            assert body["error"]["reason"] == "http"
            assert "ost" in body["error"]["message"]
            assert await reader.read() == b""
            assert application.served == []


async def test_white_space_around_a_value_is_none_of_it(application: Application) -> None:
    headers = b"Transfer-Encoding:\tChunked \r\nExpect: 100-continue \t\r\nX-Api-Key:  a key \r\nX-Empty: \r\n"
    async with connected(application) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x \r\n%b\r\n" % headers)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"2\r\nok\r\n0\r\n\r\n")
        status, _, body = await answer_of(reader)
        assert (status, body["body"]) == (200, "ok")
        got = body["headers"]
        assert (got["host"], got["x-api-key"], got["x-empty"]) == ("x", "a key", "")


async def test_errors_under_v2_are_their_messages_alone_and_have_an_id(application: Application) -> None:
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/v2/models/m/infer", b"transfer-encoding: chunked\r\n") + b"z\r\n")
        status, headers, body = await answer_of(reader)
        assert (status, body) == (400, {"error": "this is not HTTP/1.1"})
        assert len(headers["x-request-id"]) == 32
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert headers["server-timing"].startswith("total;dur=")


async def test_an_error_has_the_id_that_the_client_gave(application: Application) -> None:
    async with connected(application) as (reader, writer):
        writer.write(b"GET /v2?a=b HTTP/1.1\r\nx-request-id: mine\r\n\r\n")
        status, headers, body = await answer_of(reader)
        assert (status, body, headers["x-request-id"]) == (400, {"error": "a request has exactly one Host"}, "mine")


async def test_a_body_that_breaks_off_its_encoding_is_answered_and_the_application_let_go(
    application: Application,
) -> None:
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/", b"transfer-encoding: chunked\r\nx-request-id: mine\r\n"))
        await application.entered.wait()
        writer.write(b"nonsense\r\n")
        status, headers, _ = await answer_of(reader)
        assert (status, headers["x-request-id"]) == (400, "mine")
        await application.disconnected.wait()


async def test_a_request_is_answered_before_the_nonsense_that_follows_it(application: Application) -> None:
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/", b"content-length: 5\r\n") + b"hello" + b"nonsense\r\n\r\n")
        status, _, body = await answer_of(reader)
        assert (status, body["body"]) == (200, "hello")
        assert await reader.read() == b""


@pytest.mark.parametrize("pieces", [1, 7, 1000])
async def test_an_offer_to_upgrade_is_ignored(application: Application, pieces: int) -> None:
    """As Java's HttpClient makes with its first request, whose body must not be lost."""
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n"
    sent = POST % (b"/first", offer + b"content-length: 5\r\n") + b"hello"
    sent += POST % (b"/second", offer + b"transfer-encoding: chunked\r\n") + b"3\r\nall\r\n0\r\n\r\n"
    sent += POST % (b"/third", b"content-length: 2\r\n") + b"ok"
    sent += b"GET /fourth HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    async with connected(application) as (reader, writer):
        size = len(sent) // pieces + 1
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await asyncio.sleep(0)
        got = [(await answer_of(reader))[2] for _ in range(4)]
        assert [(answer["path"], answer["body"]) for answer in got] == [
            ("/first", "hello"), ("/second", "all"), ("/third", "ok"), ("/fourth", "")
        ]  # fmt: skip
        assert "upgrade" not in got[0]["headers"]
    assert application.served == ["/first", "/second", "/third", "/fourth"]


async def test_trailers_are_no_headers(application: Application) -> None:
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/gate", b"transfer-encoding: chunked\r\n"))
        writer.write(b"1\r\na\r\n0\r\nx-api-key: stolen\r\n\r\n")
        await application.entered.wait()
        application.gate.set()
        assert (await answer_of(reader))[2]["headers"] == {"host": "x", "transfer-encoding": "chunked"}


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"GET / HTTP/1.1\r\nx: ", id="a header"),
        pytest.param(b"GET /", id="a path"),
        pytest.param(POST % (b"/", b"transfer-encoding: chunked\r\n") + b"1;", id="an extension of a chunk"),
        pytest.param(POST % (b"/", b"transfer-encoding: chunked\r\n") + b"1\r\na\r\n0\r\nx: ", id="a trailer"),
    ],
)
async def test_an_endless_head_is_refused(application: Application, endless: bytes) -> None:
    async with connected(application) as (reader, writer):
        writer.write(endless)
        answering = asyncio.create_task(answer_of(reader))
        for _ in range(20 * reading.HEAD_BYTES // 4096):
            writer.write(b"x" * 4096)
            await writer.drain()
            if answering.done():
                break
        status, _, body = await answering
        assert (status, body["error"]["code"]) == (431, "headers_too_large")


async def test_a_slow_head_is_refused_and_a_silent_connection_closed(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "HEAD_SECONDS", 0.2)
    for start in (b"GET / HTTP", b"\r\n"):
        async with connected(application) as (reader, writer):
            writer.write(start)
            status, _, body = await answer_of(reader)
            assert (status, body["error"]["code"]) == (408, "request_timeout")
            assert await reader.read() == b""
    async with connected(application) as (reader, writer):  # the second request of a connection
        writer.write(POST % (b"/", b"content-length: 0\r\n"))
        assert (await answer_of(reader))[0] == 200
        writer.write(b"P")
        assert (await answer_of(reader))[0] == 408
    async with connected(application) as (reader, writer):  # says nothing at all
        assert await reader.read() == b""


async def test_a_slow_body_is_the_applications_affair(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "HEAD_SECONDS", 0.05)
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/", b"transfer-encoding: chunked\r\n") + b"1\r\na\r\n1")
        await asyncio.sleep(0.2)
        writer.write(b"\r\nb\r\n0\r\n\r\n")
        assert (await answer_of(reader))[2]["body"] == "ab"


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 12000000\r\n",
        b"transfer-encoding: chunked\r\n",
        b"content-length: 500000\r\nconnection: close\r\n",
    ],
)
async def test_a_refused_client_may_send_everything_before_it_reads(application: Application, framing: bytes) -> None:
    for _ in range(5):
        async with connected(application) as (reader, writer):
            writer.write(POST % (b"/early", framing))
            piece = (b"186a0\r\n%b\r\n" if b"chunked" in framing else b"%b") % (b"x" * 100_000)
            for _ in range(119):
                writer.write(piece)
                await writer.drain()
            status, headers, _ = await answer_of(reader)
            assert (status, headers["connection"]) == (200, "close")
            assert await reader.read() == b""  # half closed, while the client's half is still open


async def test_the_rest_of_a_small_body_is_thrown_away_and_the_connection_kept(application: Application) -> None:
    async with connected(application) as (reader, writer):
        for _ in range(3):
            writer.write(POST % (b"/early", b"content-length: 500000\r\n"))
            status, headers, _ = await answer_of(reader)
            assert (status, headers.get("connection")) == (200, None)
            writer.write(b"x" * 500_000)
        writer.write(POST % (b"/last", b"content-length: 2\r\n") + b"ok")
        assert (await answer_of(reader))[2]["body"] == "ok"


async def test_lingering_has_an_end(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 0.2)
    async with connected(application) as (reader, writer):  # in time, with the connection to be kept
        writer.write(POST % (b"/early", b"content-length: 20\r\n"))
        await answer_of(reader)
        assert await reader.read() == b""
    async with connected(application) as (reader, writer):  # in time, with the connection to be closed
        writer.write(POST % (b"/early", b"content-length: 20000000\r\n"))
        await answer_of(reader)
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 60)
    monkeypatch.setattr(http_protocol, "LINGER_BYTES", 10**6)
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/early", b"transfer-encoding: chunked\r\n"))
        await answer_of(reader)
        with pytest.raises(ConnectionError):  # in bytes
            while True:
                writer.write(b"x" * 10_000)
                await writer.drain()


async def test_the_body_is_asked_for_when_it_is_read(application: Application) -> None:
    expecting = b"content-length: 5\r\nexpect: 100-continue\r\n"
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/", expecting))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await answer_of(reader))[2]["body"] == "hello"
        writer.write(POST % (b"/early", expecting))
        status, headers, _ = await answer_of(reader)
        assert (status, headers["connection"]) == (200, "close")
        assert await reader.read() == b""


async def test_pipelined_requests_are_answered_in_order(application: Application) -> None:
    async with connected(application) as (reader, writer):
        writer.write(b"".join(POST % (b"/%d" % n, b"content-length: 1\r\n") + b"x" for n in range(50)))
        assert [(await answer_of(reader))[2]["path"] for _ in range(50)] == [f"/{n}" for n in range(50)]


@pytest.mark.parametrize("behind", [0, 3], ids=["alone", "pipelined"])
@pytest.mark.parametrize("asked", [b"/leave", b"/gate"])
async def test_an_endpoint_learns_without_reading_that_its_client_left(
    application: Application, asked: bytes, behind: int
) -> None:
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/", b"content-length: 0\r\n"))
        await answer_of(reader)
        application.entered.clear()
        writer.write(POST % (asked, b"content-length: 0\r\n") + POST % (b"/next", b"content-length: 0\r\n") * behind)
        await application.entered.wait()
        assert application.left == []
    async with asyncio.timeout(10):
        while not application.left:
            await asyncio.sleep(0.01)
        application.gate.set()
        while application.served[-1] == "/leave" and application.left != ["/leave", "told again"]:
            await asyncio.sleep(0.01)
    assert application.left[0] == asked.decode()
    assert application.served == ["/", asked.decode()]


async def test_who_has_its_answer_has_not_left(application: Application) -> None:
    async with connected(application) as (reader, writer):
        for _ in range(2):
            writer.write(POST % (b"/", b"content-length: 0\r\n"))
            await answer_of(reader)
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/last", b"content-length: 0\r\n"))
        await answer_of(reader)
    assert application.left == []
