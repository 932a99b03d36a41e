"""HTTP/1.1 as a load generator needs it: keep-alive connections, prepared requests, little work for each."""

import asyncio
import ssl
import time
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

_PATIENCE = 10.0  # seconds that `get` waits
_CROSSED = 0.05  # seconds: what closes later than that had the request, and lost it


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes
    location: str = ""  # where else it is, of a redirect

    @property
    def outcome(self) -> str:
        """For who expected 200."""
        elsewhere = f", Location: {self.location}; give that URL" if self.location else ""
        return f"answered {self.status}{elsewhere}"


class ClosedUnused(ConnectionResetError):
    """The connection was closed and no byte of an answer had come."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time; the parsing is httptools'."""

    def __init__(self) -> None:
        self.open = False
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from nothing
        self.open = True
        self._expect()

    def _expect(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body, self._location = b"", ""
        self._begun = False
        self._sized = self._until_closed = False

    async def ask(self, request: bytes) -> Answer:
        """Send a whole request; the answer. Raises ConnectionError if the connection ends first."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        except asyncio.CancelledError:  # the answer would be taken for the next request's
            self.open = False
            self._transport.abort()
            raise
        finally:
            self._answer = None

    def close(self) -> None:
        """End it."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:  # noqa: D102 - asyncio's
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"not HTTP: {error}"))
            self._transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102 - httptools'
        field = name.lower()
        self._sized = self._sized or field in (b"content-length", b"transfer-encoding")
        if field == b"location":
            self._location = value.decode("latin-1")

    def on_headers_complete(self) -> None:  # noqa: D102 - httptools'
        self._until_closed = not self._sized  # its end is the connection's (RFC 9112, 6.3)

    def on_body(self, body: bytes) -> None:  # noqa: D102 - httptools'
        self._body += body

    def on_message_complete(self) -> None:  # noqa: D102 - httptools'
        status, body, location = self._parser.get_status_code(), self._body, self._location
        if status < 200:  # an interim answer, such as 100
            return
        if not self._parser.should_keep_alive():
            self.open = False
            self._transport.close()
        self._expect()
        if self._answer and not self._answer.done():
            self._answer.set_result(Answer(status, body, location))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: D102 - asyncio's
        self.open = False
        if self._until_closed and error is None:
            self.on_message_complete()
        elif self._begun:
            self._fail(ConnectionAbortedError("closed in the answer"))
        else:
            self._fail(ClosedUnused("closed before the answer"))

    def _fail(self, error: ConnectionError) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)


class Connections:
    """As many connections to one server as there are requests at once, kept alive between them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http:// or https:// URL")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname, parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._idle: list[Connection] = []
        self.sent_again = 0

    def request(self, method: str, headers: dict[str, str], body: bytes = b"") -> bytes:
        """A request to the URL as it goes over the wire."""
        fields = {"host": self._authority, **headers, "content-length": str(len(body))}
        lines = [f"{method} {self._path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    async def ask(self, request: bytes) -> Answer:
        """Send it over an idle connection or a new one; the answer.

        A server may close an idle connection just when it is used again: then, once, a new one is taken, and it counts
        as sent again. Raises OSError.
        """
        connection = self._take()
        if connection:
            sent = time.perf_counter()
            try:
                return await self._ask(connection, request)
            except ClosedUnused:
                if time.perf_counter() - sent > _CROSSED:
                    raise
                self.sent_again += 1
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port, ssl=self._tls)
        return await self._ask(connection, request)

    async def get(self, headers: dict[str, str] | None = None) -> bytes:
        """What is found at the URL. Raises OSError, also for a status that is not 200, and after ten seconds."""
        url = f"http{'s' if self._tls else ''}://{self._authority}{self._path}"
        try:
            async with asyncio.timeout(_PATIENCE):
                answer = await self.ask(self.request("GET", headers or {}))
        except OSError as error:  # a TimeoutError is one, and says nothing
            raise OSError(f"{url}: {str(error) or 'no answer in time'}") from None
        if answer.status != 200:
            raise OSError(f"{url} {answer.outcome}")
        return answer.body

    async def _ask(self, connection: Connection, request: bytes) -> Answer:
        answer = await connection.ask(request)
        if connection.open:
            self._idle.append(connection)
        return answer

    def _take(self) -> Connection | None:
        while self._idle:
            if (connection := self._idle.pop()).open:
                return connection
        return None

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            self._idle.pop().close()
