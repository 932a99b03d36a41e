"""Bytes in, bytes out: what is asked of a connection on real sockets, and so of the parts of uvicorn it rests on."""

import asyncio
import gc
import socket
import sys
import time
import tracemalloc
import weakref
from collections.abc import Iterator

import pytest

from service.edge import connection as http_protocol
from service.edge import linger, reading, uploads, write_watch
from service.edge.turns import TASKS_AT_ONCE
from tests.service.edge.application import LARGE, POST, Application, answer_of, connected

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
    monkeypatch.setattr(linger, "LINGER_SECONDS", 0.2)
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
    monkeypatch.setattr(linger, "LINGER_SECONDS", 60)
    monkeypatch.setattr(linger, "LINGER_BYTES", 10**6)
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has closed its side")
@pytest.mark.parametrize("path", ["/plain", "/"])
async def test_nothing_is_done_for_a_body_whose_client_has_left_when_it_is_read(
    application: Application, path: str
) -> None:
    with socket.create_connection(("127.0.0.1", application.port)) as leaver:  # before the server has its next step
        leaver.sendall(POST % (path.encode(), b"content-length: 5\r\n") + b"hello")
        leaver.shutdown(socket.SHUT_WR)
        leaver.setblocking(False)
        async with asyncio.timeout(60):
            assert await asyncio.get_running_loop().sock_recv(leaver, 1) == b""
    assert (application.plain, application.served, application.uploads.held) == (None, [], 0)


async def test_who_has_closed_its_side_and_sent_no_body_may_have_an_answer(application: Application) -> None:
    async with connected(application) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        writer.write_eof()
        assert (await answer_of(reader))[2]["method"] == "GET"


async def test_tasks_of_many_requests_that_come_together_are_begun_in_turns(application: Application) -> None:
    clients = [socket.create_connection(("127.0.0.1", application.port)) for _ in range(60)]
    try:
        async with asyncio.timeout(60):
            while len(application.protocols()) < len(clients):
                await asyncio.sleep(0.001)
        for client in clients:  # all of it before the server has its next step
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        most = before = 0
        async with asyncio.timeout(60):
            while before < len(clients):
                await asyncio.sleep(0)
                most, before = max(most, len(application.served) - before), len(application.served)
        assert most <= TASKS_AT_ONCE
    finally:
        for client in clients:
            client.close()


async def test_who_has_its_answer_has_not_left(application: Application) -> None:
    async with connected(application) as (reader, writer):
        for _ in range(2):
            writer.write(POST % (b"/", b"content-length: 0\r\n"))
            await answer_of(reader)
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/last", b"content-length: 0\r\n"))
        await answer_of(reader)
    assert application.left == []


async def test_who_leaves_is_noticed_behind_a_large_body_too(application: Application) -> None:
    """Reading pauses while megabytes wait to be taken, and nobody asks for more once they are."""
    async with connected(application) as (_, writer):
        writer.write(POST % (b"/leave", b"content-length: 3000000\r\n") + bytes(3_000_000))
        await application.entered.wait()
        async with asyncio.timeout(10):
            while application.uploads.held != 3_000_000 or application.uploads._arriving:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        while not application.left:
            await asyncio.sleep(0.01)
    assert application.uploads.held == 0


async def test_an_upload_that_is_too_slow_is_told_so(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(uploads, "_SWEEP_SECONDS", 0.1)
    for framing in (b"content-length: 1000\r\n", b"transfer-encoding: chunked\r\n"):
        application.disconnected.clear()
        async with connected(application) as (reader, writer):
            writer.write(POST % (b"/v2/models/m/infer", framing + b"x-request-id: mine\r\n") + b"1\r\na\r\n")
            status, headers, body = await answer_of(reader)
            assert (status, headers["x-request-id"], headers["connection"]) == (408, "mine", "close")
            assert str(body["error"]).startswith("the upload is too slow: ")
            assert await reader.read() == b""
        await application.disconnected.wait()
    assert application.ended("slow_upload") == 2
    assert application.uploads.held == 0


async def test_an_upload_that_nobody_has_asked_for_yet_is_not_slow(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(uploads, "_SWEEP_SECONDS", 0.1)
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/gate-first", b"content-length: 5\r\nexpect: 100-continue\r\n"))
        await application.entered.wait()
        await asyncio.sleep(0.5)
        application.gate.set()
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await answer_of(reader))[2]["body"] == "hello"


async def test_where_bodies_exceed_their_room_the_upload_that_stalls_makes_some(application: Application) -> None:
    application.uploads.most_bytes = 100_000
    async with connected(application) as (stalled, stalled_writer):
        stalled_writer.write(POST % (b"/stalled", b"content-length: 90000\r\n") + bytes(60_000))
        while application.uploads.held != 60_000:
            await asyncio.sleep(0.01)
        await asyncio.sleep(uploads.STALLED_SECONDS + 0.2)
        async with connected(application) as (reader, writer):
            writer.write(POST % (b"/good", b"content-length: 90000\r\n") + bytes(90_000))
            assert (await answer_of(reader))[2]["path"] == "/good"
            status, headers, body = await answer_of(stalled)
            assert (status, headers["retry-after"], body["error"]["reason"]) == (429, "1", "inflight_bytes")
            writer.write(POST % (b"/too-much", b"content-length: 200000\r\n") + bytes(200_000))
            status, _, body = await answer_of(reader)
            assert (status, body["error"]["reason"]) == (429, "inflight_bytes")
            assert await reader.read() == b""
    assert application.uploads.held == 0


async def test_where_bodies_exceed_their_room_a_request_that_is_all_here_is_refused(application: Application) -> None:
    application.uploads.most_bytes = 100
    async with connected(application) as (_, sending), connected(application) as (reader, writer):
        sending.write(POST % (b"/sending", b"content-length: 200\r\n") + bytes(60))
        while application.uploads.held != 60:
            await asyncio.sleep(0.01)
        writer.write(POST % (b"/whole", b"content-length: 45\r\nx-request-id: mine\r\n") + bytes(45))
        status, headers, body = await answer_of(reader)
        assert (status, headers["x-request-id"], body["error"]["reason"]) == (429, "mine", "inflight_bytes")
        assert await reader.read() == b""
        assert (application.uploads.held, application.served) == (60, ["/sending"])


async def test_a_client_that_does_not_take_its_answer_is_left(
    application: Application, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(write_watch, "WRITE_SECONDS", 0.2)
    for ending in (b"", b"connection: close\r\n"):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", application.port))
            client.send(POST % (b"/large", ending + b"content-length: 0\r\n"))
            async with asyncio.timeout(10):
                while not application.protocols():
                    await asyncio.sleep(0.01)
                while application.protocols():
                    await asyncio.sleep(0.01)
    assert application.ended("slow_reader") == 2
    assert sum("bytes unsent: slow_reader" in record.message for record in caplog.records) == 2


async def test_whoever_has_two_reasons_to_be_left_is_left_once(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_watch, "WRITE_SECONDS", 0.1)
    for name in ("LAST_SECONDS", "LATE_SECONDS"):
        monkeypatch.setattr(http_protocol, name, 0)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", application.port))
        client.send(POST % (b"/large", b"content-length: 0\r\nx-deadline-ms: 1\r\n"))
        async with asyncio.timeout(10):
            while not (protocols := application.protocols()) or not protocols[0].transport.get_write_buffer_size():
                await asyncio.sleep(0)
            protocols[0].shutdown()
            time.sleep(0.2)  # noqa: ASYNC251 - as if the process was stopped, until both are due
            while application.protocols():
                await asyncio.sleep(0.01)
    assert application.ended("slow_reader") + application.ended("shutdown") == 1


async def test_who_takes_a_large_answer_slowly_gets_all_of_it(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_watch, "WRITE_SECONDS", 0.5)
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/large", b"content-length: 0\r\n"))
        left = LARGE
        await reader.readuntil(b"\r\n\r\n")
        while left:
            left -= len(await reader.read(min(left, 500_000)))
            await asyncio.sleep(0.02)
    assert application.ended("slow_reader") == 0


async def test_beyond_the_limit_only_probes_are_served(application: Application) -> None:
    application.table.limit = 0
    for path, expected in ((b"/v1/classify", 429), (b"/healthz/live", 200), (b"/v2/health/ready", 200)):
        async with connected(application) as (reader, writer):
            writer.write(POST % (path, b"content-length: 0\r\n"))
            status, _, body = await answer_of(reader)
            assert status == expected
            if expected == 429:
                assert body["error"]["reason"] == "connections"
                assert await reader.read() == b""
    assert application.ended("connections") == 1


async def test_a_server_that_stops_waits_for_a_deadline_and_no_longer(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "LATE_SECONDS", 0.1)
    monkeypatch.setattr(linger, "LAST_SECONDS", 0.1)
    async with connected(application) as (reader, writer), connected(application) as (late, late_writer):
        writer.write(POST % (b"/gate", b"content-length: 0\r\nx-deadline-ms: 60000\r\n"))
        late_writer.write(POST % (b"/leave", b"content-length: 0\r\nx-deadline-ms: 500\r\n"))
        while len(application.served) < 2:
            await asyncio.sleep(0.01)
        application.server.should_exit = True
        assert await late.read() == b""
        assert application.ended("shutdown") == 1
        application.gate.set()
        assert (await answer_of(reader))[2]["path"] == "/gate"
        assert await reader.read() == b""
    assert application.left[0] == "/leave"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(b"250", 0.25), (b"nan", 0), (b"-1", 0), (b"inf", 600), (b"1e9", 600), (b"soon", 5), (None, 5)],
)
async def test_the_deadline_is_the_headers_or_the_default_unless_the_application_says_so(
    application: Application, given: bytes | None, seconds: float
) -> None:
    header = b"" if given is None else b"x-deadline-ms: %b\r\n" % given
    async with connected(application) as (_, writer):
        writer.write(POST % (b"/gate", b"content-length: 0\r\n" + header))
        await application.entered.wait()
        (protocol,) = application.protocols()
        assert (
            max(0, seconds - 1) <= protocol.seconds_left() <= seconds + 0.01
        )  # the loop looks at the clock once a round
        protocol._served.scope["mixer.deadline"] = protocol.loop.time() + 100
        assert 99 < protocol.seconds_left() <= 100


async def test_a_request_that_is_all_here_may_be_turned_away_without_a_task(application: Application) -> None:
    async with connected(application) as (reader, writer):
        for _ in range(3):  # on one connection
            writer.write(POST % (b"/full", b"content-length: 5\r\n") + b"hello")
            assert (await answer_of(reader))[0] == 429
        assert (application.turned_away, application.served, application.uploads.held) == (3, [], 0)
        writer.write(POST % (b"/full", b"content-length: 5\r\nconnection: close\r\n") + b"hello")
        assert (await answer_of(reader))[1]["connection"] == "close"
        assert await reader.read() == b""


async def test_a_request_that_is_all_here_may_be_served_without_a_task(application: Application) -> None:
    async with connected(application) as (reader, writer):
        for _ in range(2):
            application.gate.clear()
            writer.write(POST % (b"/plain", b"content-length: 5\r\n") + b"hello")
            while not application.plain:
                await asyncio.sleep(0.001)
            assert application.uploads.held == 5
            assert application.protocols()[0]._served.body == b""  # the application has it, and nobody else
            writer.write(POST % (b"/plain-as-well", b"content-length: 0\r\n"))  # which waits for its turn
            application.gate.set()
            assert (await answer_of(reader))[2] == {"plain": "hello"}
            assert (await answer_of(reader))[2]["body"] == ""
            application.plain = None
        assert (application.served, application.uploads.held) == (["/plain-as-well"] * 2, 0)
        application.entered.clear()
        writer.write(POST % (b"/plain", b"content-length: 5\r\n") + b"hel")
        await application.entered.wait()
        writer.write(b"lo")
        assert (await answer_of(reader))[2]["body"] == "hello"
        assert application.plain is None


async def test_an_answer_that_says_so_is_the_last_of_its_connection(application: Application) -> None:
    async with connected(application) as (reader, writer):
        while not application.protocols():
            await asyncio.sleep(0.01)
        application.protocols()[0].timeout_keep_alive = 60
        writer.write(POST % (b"/full-and-draining", b"content-length: 0\r\n"))
        assert (await reader.readuntil(b"\r\n\r\n")).lower().count(b"connection: close") == 1
        assert await reader.read() == b"{}"  # up to the end


async def test_who_is_still_sending_or_pipelines_is_not_turned_away_by_a_look(application: Application) -> None:
    async with connected(application) as (reader, writer):
        writer.write(POST % (b"/full", b"content-length: 5\r\n") + b"hel")
        await application.entered.wait()
        writer.write(b"lo" + POST % (b"/full", b"content-length: 0\r\n"))
        assert (await answer_of(reader))[2]["body"] == "hello"
        assert (await answer_of(reader))[0] == 429
        assert application.turned_away == 1
        writer.write(2 * POST % (b"/full", b"content-length: 0\r\n", b"/full", b"content-length: 0\r\n"))
        assert [(await answer_of(reader))[0] for _ in range(2)] == [200, 429]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing goes but what nobody knows any more."""
    gc.disable()
    yield
    gc.enable()


ENDINGS = {
    "answered": POST % (b"/", b"content-length: 5\r\n") + b"hello",
    "answered early": POST % (b"/early", b"content-length: 500000\r\n"),
    "turned away": POST % (b"/full", b"content-length: 5\r\n") + b"hello",
    "served without a task": POST % (b"/plain", b"content-length: 5\r\n") + b"hello",
    "refused for want of room": POST % (b"/", b"content-length: 200\r\n") + bytes(200),
    "refused in the head": b"GET / HTTP/1.1\r\n\r\n",
    "refused in the body": POST % (b"/", b"transfer-encoding: chunked\r\n") + b"nonsense\r\n",
    "left in the body": POST % (b"/", b"content-length: 5\r\n") + b"hel",
    "left before the answer": POST % (b"/gate", b"content-length: 5\r\n") + b"hello",
    "left with more behind": 3 * (POST % (b"/gate", b"content-length: 0\r\n")),
    "left unread": POST % (b"/large", b"content-length: 0\r\n"),
}


@pytest.mark.parametrize("sent", ENDINGS.values(), ids=ENDINGS)
async def test_of_a_connection_that_is_closed_nothing_is_left(
    application: Application, uncollected: None, sent: bytes
) -> None:
    application.uploads.most_bytes = 100
    async with connected(application) as (_, writer):
        writer.write(sent)
        while not application.protocols():
            await asyncio.sleep(0.01)
        protocol = weakref.ref(application.protocols()[0])
        await asyncio.sleep(0.1)
    application.gate.set()
    async with asyncio.timeout(10):
        while protocol():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", [b"/", b"/early", b"/full"])
async def test_a_connection_that_idles_holds_nothing_of_its_last_request(
    application: Application, uncollected: None, path: bytes
) -> None:
    body = bytes(100_000)
    async with connected(application) as (reader, writer):
        tracemalloc.start()
        try:
            for _ in range(2):  # what the first one loads stays
                writer.write(POST % (path, b"content-length: %d\r\n" % len(body)) + body)
                await answer_of(reader)
                await asyncio.sleep(0.1)
                held = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
    assert max(trace.size for trace in held.traces) < len(body) / 2
