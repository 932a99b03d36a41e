"""Bytes in, bytes out: what is asked of a connection on real sockets, and so of the parts of uvicorn it rests on."""

import asyncio

import pytest

from service.edge import connection as http_protocol
from service.edge import reading
from tests.service.edge.application import POST, Application, answer_of, connected

pytestmark = pytest.mark.anyio


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
