"""A server of one small application behind our protocol, and what talks to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from service.edge.connection import HttpProtocol
from service.edge.connection_table import ConnectionTable
from service.edge.request_log import RequestLog
from service.edge.sending import Sending
from service.edge.uploads import Uploads
from service.metrics import Metrics

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
POST = b"POST %b HTTP/1.1\r\nhost: x\r\n%b\r\n"
LARGE = 20_000_000  # bytes, more than any kernel buffers


class Application:
    """Says what it got; /early answers before it reads, /gate once the test opens it, /leave never, /large a lot."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.full = True
        self.turned_away = 0
        self.left: list[str] = []
        self.plain: asyncio.Task[None] | None = None
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.disconnected = asyncio.Event()
        self.port = 0
        self.server: uvicorn.Server
        self.metrics = Metrics()
        self.uploads = Uploads(most_bytes=2**28, least_rate=500)
        self.table = ConnectionTable(1000, self.uploads, self.metrics.connections_ended)

    def ended(self, reason: str) -> float:
        """Connections that were ended for this reason."""
        labels = {"reason": reason}
        return self.metrics.registry.get_sample_value("mixer_connections_ended_total", labels) or 0.0

    def protocols(self) -> list[Any]:
        """The open connections, as the server has them."""
        return list(self.server.server_state.connections)

    def turn_away(self, scope: Scope, body: bytearray) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        """As the edge does, but of /full and /full-and-draining, and nobody else."""
        if not scope["path"].startswith("/full"):
            return None
        self.turned_away += 1
        closing = [(b"connection", b"close")] if scope["path"] == "/full-and-draining" else []
        return 429, [(b"content-length", b"2"), *closing], b"{}"

    def serve_plain(self, scope: Scope, body: bytes, sending: Sending) -> bool:
        """As the edge does, but of /plain, and nobody else: what came is sent back once the test opens the gate."""
        if scope["path"] != "/plain":
            return False

        async def answer() -> None:
            await self.gate.wait()
            said = json.dumps({"plain": body.decode()}).encode()
            sending.write(200, [(b"content-length", b"%d" % len(said))], said)

        self.plain = asyncio.create_task(answer())
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.served.append(scope["path"])
        self.entered.set()
        body = b""
        if scope["path"] == "/gate-first":
            await self.gate.wait()
        if scope["path"] == "/large":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]})
            await send({"type": "http.response.body", "body": bytes(LARGE)})
            return
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


@asynccontextmanager
async def serving(application: Application) -> AsyncIterator[Application]:
    protocol: Any = partial(
        HttpProtocol, table=application.table, deadline_seconds=5.0, request_log=RequestLog("errors")
    )
    config = uvicorn.Config(
        application,
        port=0,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=1,
    )
    server = application.server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(60):
        while not server.started:
            await asyncio.sleep(0.01)
        application.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield application
    finally:
        application.gate.set()
        server.should_exit = True
        await serving


@asynccontextmanager
async def connected(application: Application) -> AsyncIterator[Client]:
    async with asyncio.timeout(60):  # a test that hangs fails; a slow machine is not what is tested
        reader, writer = await asyncio.open_connection("127.0.0.1", application.port)
        try:
            yield reader, writer
        finally:
            writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict[str, object]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, json.loads(await reader.readexactly(int(headers["content-length"])))
