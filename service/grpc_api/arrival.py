"""Messages as they arrive: never more at once than there is room for, and none that holds others up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import grpc.aio

from service.errors import MalformedRequest, Overloaded, RequestTimeout

_PATIENCE_SECONDS = 1.0
_LOOKS = 100  # in that time, for messages that have to make room
_LEAST_LOOKS = 3  # before one has: what is here takes a turn or two of the event loop to be handed over, however slow


class Arrivals:
    """Room for so many bytes of messages that are not here yet.

    How long one is, is known once it is here. So each takes the room of the longest there may be, and one that takes it
    for longer than a second makes room for whoever waits; sooner where more wait than there is room for, so that those
    who wait all have their turn within about a second.

    The last to come is the first to have room. Who sends has sent when the call begins, mostly, and would otherwise
    wait behind everybody who opened a call and sends nothing.
    """

    def __init__(
        self, most_bytes: int, longest: int, most_waiting: int, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        """`patience_seconds`: with a message on its way, while others wait for its room."""
        self._places = self._free = max(1, most_bytes // longest)
        self._most_waiting = most_waiting
        self._look_seconds = patience_seconds / _LOOKS
        self._looks = 0
        self._looking = False
        self._arriving: dict[asyncio.Timeout, int] = {}  # since which look, the longest on its way first
        self._waiting: dict[asyncio.Future[None], None] = {}  # the last to come last

    async def receive(self, context: Any) -> bytes:
        """The message of a call.

        Raises MalformedRequest if it has none, RequestTimeout if it has to make room, Overloaded if too many wait.
        """
        await self._enter()
        try:
            async with self._making_room():
                message = await context.read()
        finally:
            self._leave()
        if message is grpc.aio.EOF:
            raise MalformedRequest("the call has no message", reason="message")
        return bytes(message)

    async def _enter(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        if len(self._waiting) > self._most_waiting:
            self._refuse(next(iter(self._waiting)))
        if not self._looking:
            self._look_later()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.pop(turn, None)
            elif not turn.exception():
                self._leave()
            raise

    def _refuse(self, turn: asyncio.Future[None]) -> None:
        del self._waiting[turn]
        if not turn.done():
            told = "too many calls wait for their messages to be read"
            turn.set_exception(Overloaded(told, reason="inflight_bytes", retry_after=1))

    def _leave(self) -> None:
        while self._waiting:
            turn, _ = self._waiting.popitem()
            if not turn.done():  # as it is once it is cancelled, before its task is told
                turn.set_result(None)
                return
        self._free += 1

    @asynccontextmanager
    async def _making_room(self) -> AsyncIterator[None]:
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._arriving[timeout] = self._looks
                yield
        except TimeoutError:
            told = "the message took too long to arrive while others waited"
            raise RequestTimeout(told, reason="slow_upload") from None
        finally:
            self._arriving.pop(timeout, None)

    def _look_later(self) -> None:
        self._looking = bool(self._waiting)
        if self._looking:
            asyncio.get_running_loop().call_later(self._look_seconds, self._look)

    def _look(self) -> None:
        """End the messages that are on their way for too long, as many as there is somebody waiting for."""
        self._looks += 1
        waiting = len(self._waiting)
        patience = max(_LEAST_LOOKS, min(_LOOKS, _LOOKS * self._places // max(1, waiting)))
        for slow, since in list(islice(self._arriving.items(), waiting)):
            if self._looks - since >= patience:
                del self._arriving[slow]
                slow.reschedule(asyncio.get_running_loop().time())
        self._look_later()
