"""A damaged request on its way to the service, by HTTP or gRPC, and what came of it."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from benchmarks.robustness.doors import GRPC, Request
from benchmarks.servers.own import OwnService

HUNG = 10.0  # seconds
OK = ("200", "OK")
FULL = ("429", "RESOURCE_EXHAUSTED")  # refused for lack of room
_HEADERS = {"x-deadline-ms": str(3000 * HUNG)}  # so that a slow machine is seen as slow, and not as full


class Answer(NamedTuple):
    """What a request got."""

    status: str  # HTTP's, gRPC's by its name, or what went wrong
    body: bytes
    seconds: float


class Sender:
    """Connections to a service, by both wires."""

    def __init__(self, http: aiohttp.ClientSession, channel: Any) -> None:
        self._http = http
        self._infer = channel.unary_unary(GRPC)

    async def send(self, request: Request) -> Answer:
        """The answer, within ten seconds."""
        sent = time.perf_counter()
        status, body = await (self._by_grpc(request) if request.path == GRPC else self._by_http(request))
        return Answer(status, body, time.perf_counter() - sent)

    async def _by_http(self, request: Request) -> tuple[str, bytes]:
        body = b""
        try:
            async with self._http.post(request.path, data=request.body, headers=request.headers) as response:
                body = await response.read()
            return str(response.status), body
        except TimeoutError:
            return "hung", body
        except aiohttp.ClientError as error:
            return type(error).__name__, body

    async def _by_grpc(self, request: Request) -> tuple[str, bytes]:
        call = self._infer(request.body, timeout=HUNG, metadata=tuple(request.headers.items()))
        status = await call.code()
        return status.name, await call if status.name in OK else b""


@asynccontextmanager
async def sender(service: OwnService) -> AsyncIterator[Sender]:
    """To a service that has gRPC's door, for the length of the block."""
    import grpc.aio  # noqa: PLC0415 - an optional dependency

    url = service.url.removesuffix("/v1/classify")
    timeout, connector = aiohttp.ClientTimeout(total=HUNG), aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(url, connector=connector, timeout=timeout, headers=_HEADERS) as http,
        grpc.aio.insecure_channel(service.grpc_address) as channel,
    ):
        yield Sender(http, channel)
