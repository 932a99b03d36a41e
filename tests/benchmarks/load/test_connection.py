import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from benchmarks.load.connection import Answer, Connections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

pytestmark = pytest.mark.anyio


@dataclass
class Script:
    """Connections that were made, and what came in over each."""

    url: str = ""
    connections: list[list[bytes]] = field(default_factory=list)


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    return head + await reader.readexactly(int(fields[b"content-length"]))


@asynccontextmanager
async def _server(*answers: bytes) -> AsyncIterator[Script]:
    """Gives these answers to the requests as they come; closes a connection after one that is empty or says so."""
    script, left = Script(), list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script.connections.append(requests := [])
        try:
            while left:
                requests.append(await _request(reader))
                answer = left.pop(0)
                writer.write(answer)
                await writer.drain()
                if not answer or b"onnection: close" in answer:
                    break
            else:
                await reader.read()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/path?x=1"
    try:
        yield script
    finally:
        server.close()


async def _ask(url: str, times: int = 1) -> list[Answer]:
    connections = Connections(url)
    try:
        return [await connections.ask(connections.request("POST", {"a": "b"}, b"body")) for _ in range(times)]
    finally:
        connections.close()


async def test_a_request_is_what_it_should_be() -> None:
    async with _server(OK) as script:
        assert await _ask(script.url) == [Answer(200, b"hi")]
    host = script.url.split("/")[2]
    assert script.connections == [
        [f"POST /path?x=1 HTTP/1.1\r\nhost: {host}\r\na: b\r\ncontent-length: 4\r\n\r\nbody".encode()]
    ]


async def test_requests_one_after_the_other_share_a_connection() -> None:
    async with _server(OK, OK, OK) as script:
        assert await _ask(script.url, 3) == [Answer(200, b"hi")] * 3
    assert [len(requests) for requests in script.connections] == [3]


async def test_requests_at_once_have_one_each() -> None:
    async with _server(OK, OK, OK) as script:
        connections = Connections(script.url)
        request = connections.request("POST", {})
        await asyncio.gather(*(connections.ask(request) for _ in range(3)))
        connections.close()
    assert [len(requests) for requests in script.connections] == [1, 1, 1]


async def test_chunks_are_put_together() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"
    async with _server(chunked, OK) as script:
        assert await _ask(script.url, 2) == [Answer(200, b"abcde"), Answer(200, b"hi")]
    assert len(script.connections) == 1


async def test_an_interim_answer_is_not_the_answer() -> None:
    async with _server(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, OK) as script:
        assert await _ask(script.url, 2) == [Answer(200, b"hi")] * 2


async def test_a_connection_that_the_server_gives_up_is_not_used_again() -> None:
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    async with _server(last, OK) as script:
        assert await _ask(script.url, 2) == [Answer(200, b"hi")] * 2
    assert [len(requests) for requests in script.connections] == [1, 1]


async def test_an_idle_connection_that_closes_under_a_request_is_replaced_once() -> None:
    async with _server(OK, b"", OK) as script:
        assert await _ask(script.url, 2) == [Answer(200, b"hi")] * 2
    assert [len(requests) for requests in script.connections] == [2, 1]
    async with _server(OK, b"", b"") as script:
        with pytest.raises(ConnectionResetError):
            await _ask(script.url, 2)
    assert [len(requests) for requests in script.connections] == [2, 1]


async def test_an_answer_that_breaks_off_is_not_asked_for_again() -> None:
    async with _server(OK, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 20\r\n\r\nhal", OK) as script:
        with pytest.raises(ConnectionAbortedError):
            await _ask(script.url, 2)
    assert [len(requests) for requests in script.connections] == [2]


async def test_an_answer_may_end_with_its_connection() -> None:
    async with _server(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi", OK) as script:
        assert await _ask(script.url, 2) == [Answer(200, b"hi")] * 2


async def test_a_new_connection_that_closes_is_not_tried_again() -> None:
    async with _server(b"", OK) as script:
        with pytest.raises(ConnectionResetError, match="closed before the answer"):
            await _ask(script.url)
    assert len(script.connections) == 1


async def test_what_is_not_http_is_said_to_be_so() -> None:
    async with _server(b"SSH-2.0-OpenSSH_9.2p1\r\n") as script:
        with pytest.raises(ConnectionError, match="not HTTP"):
            await _ask(script.url)


async def test_a_redirect_says_where_to() -> None:
    redirect = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://h/path/\r\nContent-Length: 0\r\n\r\n"
    async with _server(redirect, OK, redirect) as script:
        assert await _ask(script.url, 2) == [Answer(307, b"", "https://h/path/"), Answer(200, b"hi")]
        connections = Connections(script.url)
        with pytest.raises(
            OSError, match=f"{re.escape(script.url)} answered 307, Location: https://h/path/; give that"
        ):
            await connections.get()
        connections.close()


async def test_nobody_there() -> None:
    async with _server() as script:
        pass
    with pytest.raises(ConnectionRefusedError):
        await _ask(script.url)


async def test_who_stops_waiting_leaves_no_answer_to_the_next_request() -> None:
    said: list[bytes] = []
    late = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(await _request(reader))
        if len(said) == 1:
            await late.wait()
        writer.write(OK.replace(b"hi", b"%02d" % len(said)))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        connections = Connections(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        request = connections.request("POST", {})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connections.ask(request)
        assert (await connections.ask(request)).body == b"02"
        late.set()
        connections.close()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost/", "http://", "/v1/classify", "http://h:99999"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"not an http|Port out of range"):
        Connections(url)
