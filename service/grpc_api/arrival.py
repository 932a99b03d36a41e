"""Messages as they arrive: never more at once than there is room for, and none that holds others up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from service.errors import MalformedRequest, RequestTimeout

_PATIENCE_SECONDS = 1.0


class Arrivals:
    """Room for so many bytes of messages that are not here yet.

    How long one is, is known once it is here. So each takes the room of the longest there may be, and one that takes it
    for longer than a second makes room for whoever waits.
    """

    def __init__(self, most_bytes: int, longest: int, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        """`patience_seconds`: with a message on its way, while others wait for its room."""
        self._patience_seconds = patience_seconds
        self._room = asyncio.Semaphore(max(1, most_bytes // longest))
        self._arriving: dict[asyncio.Timeout, float] = {}  # since when, the longest on its way first

    async def receive(self, context: Any) -> bytes:
        """The message of a call; raises MalformedRequest if it has none, RequestTimeout if it has to make room."""
        await self._enter()
        try:
            async with self._making_room():
                message = await context.read()
        finally:
            self._room.release()
        if message is grpc.aio.EOF:
            raise MalformedRequest("the call has no message", reason="message")
        return bytes(message)

    async def _enter(self) -> None:
        entering = asyncio.ensure_future(self._room.acquire())
        try:
            while not (await asyncio.wait([entering], timeout=self._patience_seconds))[0]:
                self._end_slowest()
        except asyncio.CancelledError:
            if not entering.cancel():
                self._room.release()
            raise

    @asynccontextmanager
    async def _making_room(self) -> AsyncIterator[None]:
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._arriving[timeout] = asyncio.get_running_loop().time()
                yield
        except TimeoutError:
            told = "the message took too long to arrive while others waited"
            raise RequestTimeout(told, reason="slow_upload") from None
        finally:
            self._arriving.pop(timeout, None)

    def _end_slowest(self) -> None:
        now = asyncio.get_running_loop().time()
        slowest, since = next(iter(self._arriving.items()), (None, now))
        if slowest and now - since >= self._patience_seconds:
            del self._arriving[slowest]
            slowest.reschedule(now)
