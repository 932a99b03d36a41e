"""What a connection takes in, on real sockets, and so of the parts of uvicorn it rests on."""

import asyncio
import math

import pytest

from service.edge import reading
from tests.service.edge.application import POST, Application, answer_of, connected

pytestmark = pytest.mark.anyio


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


async def test_a_request_is_answered_before_the_nonsense_that_follows_it(application: Application) -> None:
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/", b"content-length: 5\r\n") + b"hello" + b"nonsense\r\n\r\n")
        status, _, body = await answer_of(reader)
        assert (status, body["body"]) == (200, "hello")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")


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


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nhost: x\r\n%b\r\n", POST % (b"/", b"transfer-encoding: chunked\r\n") + b"0\r\n%b\r\n"]
)
async def test_a_head_has_so_many_lines_and_no_more(application: Application, head: bytes) -> None:
    for lines, expected in ((reading.HEAD_LINES - 1, 200), (reading.HEAD_LINES + 1, 431)):
        async with connected(application) as (reader, writer):
            writer.write(head % (b"a: b\r\n" * lines))
            assert (await answer_of(reader))[0] == expected


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


async def test_pipelined_requests_are_answered_in_order(application: Application) -> None:
    async with connected(application) as (reader, writer):
        writer.write(b"".join(POST % (b"/%d" % n, b"content-length: 1\r\n") + b"x" for n in range(50)))
        assert [(await answer_of(reader))[2]["path"] for _ in range(50)] == [f"/{n}" for n in range(50)]


GET = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"


async def test_no_more_is_read_of_a_client_than_is_answered_and_a_little(application: Application) -> None:
    """It writes until it can no longer, and then gets every answer, in order."""
    count = 100_000
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/gate", b"content-length: 0\r\n"))
        await application.entered.wait()
        writer.write(GET % b"/x" * count)
        (protocol,) = application.protocols()
        while not protocol.flow.read_paused:
            await asyncio.sleep(0.01)
        assert len(protocol._unfed) < 300_000, "what the event loop reads at once"
        assert len(protocol.pipeline) <= reading._SLICE // len(GET % b"/x") + 1
        protocol.flow.resume_reading()  # as uvicorn does for every request
        assert protocol.flow.read_paused
        application.gate.set()
        assert (await answer_of(reader))[2]["path"] == "/gate"
        for _ in range(2000):
            assert (await answer_of(reader))[2]["path"] == "/x"


@pytest.mark.parametrize("framing", [b"content-length: 3000000\r\n", b"transfer-encoding: chunked\r\n"])
async def test_while_it_waits_for_its_turn_no_more_is_read_of_a_client_than_a_little(
    application: Application, framing: bytes
) -> None:
    body = bytes(3_000_000)
    turns = application.table.turns
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/x", framing) + (b"2dc6c0\r\n%b" if b"chunked" in framing else b"%b") % body[:1000])
        await application.entered.wait()
        (protocol,) = application.protocols()
        turns._begun, turns._until = True, -math.inf  # somebody else's, for as long as the test wants
        writer.write(body[1000:] + (b"\r\n0\r\n\r\n" if b"chunked" in framing else b""))
        while not protocol.flow.read_paused:
            await asyncio.sleep(0.01)
        assert reading.WAITING_BYTES < len(protocol._unfed) < 600_000, "twice what the event loop reads at once"
        turns._next()
        assert len((await answer_of(reader))[2]["body"]) == len(body)


async def test_what_waits_for_its_turn_is_counted_and_bounded_as_it_comes(application: Application) -> None:
    piece = bytes(4096)
    turns = application.table.turns
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/x", b"content-length: 20480\r\n"))
        await application.entered.wait()
        (protocol,) = application.protocols()
        turns._begun, turns._until = True, -math.inf
        for count in range(1, 6):
            assert not protocol.flow.read_paused
            writer.write(piece)
            while len(protocol._unfed) < count * len(piece):
                await asyncio.sleep(0.001)
            assert turns._bytes == len(protocol._unfed)
        assert protocol.flow.read_paused
        turns._next()
        assert len((await answer_of(reader))[2]["body"]) == 5 * len(piece)


@pytest.mark.parametrize(("count", "more"), [(20, 0), (20, 5), (2000, 0)])
async def test_what_waits_behind_a_request_waits_for_its_turn_once_that_is_answered(
    application: Application, count: int, more: int
) -> None:
    turns = application.table.turns

    async def send(count: int) -> None:
        before = len(protocol._unfed)
        writer.write(GET % b"/x" * count)
        while len(protocol._unfed) < before + len(GET % b"/x") * count and not protocol.flow.read_paused:
            await asyncio.sleep(0.001)

    async with connected(application) as (reader, writer):
        writer.write(GET % b"/gate")
        await application.entered.wait()
        (protocol,) = application.protocols()
        await send(count)
        behind = len(protocol._unfed)
        assert protocol not in turns
        turns._begun, turns._until = True, -math.inf
        await send(more)
        came = len(protocol._unfed) - behind
        application.gate.set()
        assert (await answer_of(reader))[2]["path"] == "/gate"
        assert application.served == ["/gate"]
        assert protocol in turns
        assert turns._bytes == (came or behind)
        turns._next()
        for _ in range(count + more):
            assert (await answer_of(reader))[2]["path"] == "/x"


@pytest.mark.parametrize("asked", [b"/gate", b"/early"])
async def test_a_pipelined_body_waits_with_its_request(application: Application, asked: bytes) -> None:
    body = bytes(50_000)
    async with connected(application) as (reader, writer):
        writer.write(GET % b"/gate")
        await application.entered.wait()
        for framing in (
            b"content-length: 50000\r\n\r\n%b",
            b"transfer-encoding: chunked\r\n\r\nc350\r\n%b\r\n0\r\n\r\n",
        ):
            writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\n" % asked + framing % body)
        writer.write(GET % b"/last")
        await asyncio.sleep(0.1)
        application.gate.set()
        got = [(await answer_of(reader))[2] for _ in range(4)]
        assert [answer["path"] for answer in got] == ["/gate", asked.decode(), asked.decode(), "/last"]
        if asked == b"/gate":
            assert [len(str(answer["body"])) for answer in got] == [0, 50_000, 50_000, 0]


async def test_a_head_that_had_to_wait_is_not_slow(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "HEAD_SECONDS", 0.1)
    async with connected(application) as (reader, writer):
        writer.write(GET % b"/gate" + b"GET /next HTTP/1.1\r\n")
        await application.entered.wait()
        await asyncio.sleep(0.3)
        application.gate.set()
        writer.write(b"host: x\r\n\r\n")
        assert [(await answer_of(reader))[2]["path"] for _ in range(2)] == ["/gate", "/next"]
        writer.write(GET % b"/gate" + b"GET /next HTTP/1.1\r\n")
        assert [(await answer_of(reader))[0] for _ in range(2)] == [200, 408]


async def test_a_body_may_come_byte_by_byte_up_to_a_bound(application: Application) -> None:
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/", b"transfer-encoding: chunked\r\n") + b"1\r\nx\r\n" * 200 + b"0\r\n\r\n")
        assert (await answer_of(reader))[2]["body"] == "x" * 200
        writer.write(POST % (b"/", b"transfer-encoding: chunked\r\n") + b"1\r\nx\r\n" * 20_000)
        status, _, body = await answer_of(reader)
        assert (status, body["error"]["reason"]) == (400, "pieces")
        assert "261 pieces" in body["error"]["message"]
    large = b"1000\r\n" + bytes(4096) + b"\r\n"
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/early", b"transfer-encoding: chunked\r\n") + large * 2000 + b"0\r\n\r\n")
        assert (await answer_of(reader))[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64\0\4\0\xa0\0\0\0\2\0\0\0\0",
    ],
)
@pytest.mark.parametrize("pieces", [1, 5])
async def test_http2_is_told_that_it_is(application: Application, sent: bytes, pieces: int) -> None:
    async with connected(application) as (reader, writer):
        size = len(sent) // pieces + 1
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await asyncio.sleep(0.01)
        status, _, body = await answer_of(reader)
        assert (status, body["error"]["message"]) == (400, "this is HTTP/2 and not HTTP/1.1")
        assert await reader.read() == b""
