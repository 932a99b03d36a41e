"""The way out of one request's answer: in ASGI's messages, or whole."""

from collections.abc import Iterable
from typing import Protocol

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

Header = tuple[bytes, bytes]

_CLOSE = (b"connection", b"close")


class Connection(Protocol):
    """What sending asks of the connection."""

    def closes_early(self, cycle: RequestResponseCycle) -> bool:
        """Whether the connection ends with this answer because the rest of the body is too long to throw away."""

    def stay_for_rest(self, cycle: RequestResponseCycle) -> None:
        """The answer's end is about to be sent: do not close at once if more is on its way from the client."""


class Sending:
    """ASGI's `send`. `whole` does in one go, and one system call, what is a good part of what a small answer costs."""

    def __init__(self, cycle: RequestResponseCycle, connection: Connection) -> None:
        self._cycle = cycle
        self._connection = connection

    async def __call__(self, message: Message) -> None:
        """Send the head, or a piece of the body."""
        if message["type"] == "http.response.start":
            if self._connection.closes_early(self._cycle):
                message["headers"] = [*message.get("headers", ()), _CLOSE]
        elif not message.get("more_body", False):
            self._connection.stay_for_rest(self._cycle)
        await self._cycle.send(message)  # type: ignore[arg-type]

    async def whole(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Send an answer with its length among its headers; nothing may have been sent of it."""
        if self._cycle.flow.write_paused and not self._cycle.disconnected:
            await self._cycle.flow.drain()
        self.write(status, headers, body)

    def write(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """The same, however much is unsent of what went before."""
        cycle = self._cycle
        cycle.scope.pop("mixer.on_leave", None)  # type: ignore[typeddict-item] # by which it knows itself
        if cycle.disconnected:
            return
        said = [*cycle.default_headers, *headers]
        if _CLOSE in said or self._connection.closes_early(cycle):
            cycle.keep_alive = False
        if not cycle.keep_alive and _CLOSE not in said:
            said.append(_CLOSE)
        lines = [STATUS_LINE[status], *[b"%b: %b\r\n" % header for header in said]]
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self._connection.stay_for_rest(cycle)
        cycle.transport.write(b"".join((*lines, b"\r\n", body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def abort(self) -> None:
        """End the connection, since there is no answer."""
        self._cycle.transport.abort()
