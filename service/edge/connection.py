"""The edge of HTTP/1.1, where uvicorn trusts its clients: heads that are endless or slow, what is no HTTP at all,
offers to upgrade, and clients that are refused while they still send.

It overrides private parts of uvicorn's protocol; tests/service/edge/test_connection.py fails where those change.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.edge.rendering import render_error
from service.edge.request_id import request_id_of
from service.errors import HeadersTooLarge, MalformedRequest, RequestTimeout, ServiceError

log = logging.getLogger(__name__)

HEAD_BYTES = 64 * 2**10  # of headers, of trailers, of what frames a chunk; what is read at once with it may pass
HEAD_SECONDS = 10.0  # from a head's first byte to its last
# What a client sends until it reads its refusal is thrown away: closing a connection with bytes unread resets it, and
# the refusal is lost (RFC 9112, section 9.6).
LINGER_SECONDS = 10.0
LINGER_BYTES = 64 * 2**20
LAST_SECONDS = 1.0  # of lingering while the server stops
_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*")  # RFC 3986, section 3.2, without a user
_SMALL_BODY = 2**20  # bytes; sooner thrown away to the end than a new connection is made


class HttpProtocol(HttpToolsProtocol):
    """One connection; for `uvicorn.Config(http=HttpProtocol)`.

    Each request's ASGI scope has under "mixer.on_leave" a function that takes one callback (the last one given counts)
    and calls it once if the client leaves before its answer is complete, or at once if it has left already.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True  # or before one
        self._unparsed = 0  # bytes since a head or a piece of a body was complete
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._linger_bytes = LINGER_BYTES
        self._closing = False  # no more requests are read
        self._served: RequestResponseCycle | None = None  # with pipelined requests behind it, not uvicorn's cycle
        self._on_leave: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that never speaks is kept as long as one between two requests."""
        super().connection_made(transport)
        self._keep_alive()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever serves a request of this client, and leave no timer behind."""
        self._unset_keepalive_if_required()
        self._end_head()
        if self._linger_timer:
            self._linger_timer.cancel()
        super().connection_lost(exc)
        if self._served:
            self._leave(self._served)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, within bounds."""
        self._unset_keepalive_if_required()
        if self._linger_timer:
            self._linger_bytes -= len(data)
            if self._linger_bytes < 0:
                self.transport.close()
            if self._closing:
                return
        self._unparsed += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            ours = error.__context__  # raised where the parser called
            if not isinstance(ours, MalformedRequest):
                ours = MalformedRequest("this is not HTTP/1.1", reason="http")
            self._refuse(ours)
            return
        if self._unparsed > HEAD_BYTES:
            self._refuse(HeadersTooLarge(f"the headers exceed {HEAD_BYTES} bytes"))
        elif self._in_head and self._unparsed and not self._head_timer:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._on_slow_head)

    def _feed(self, data: bytes | memoryview) -> None:
        """Upgrades are ignored, as a server may (RFC 9110, section 7.8): who offers one speaks HTTP/1.1 all the same.

        The parser takes what follows the offer for another protocol, so a new one gets the head without it.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                read = upgrade.args[0]
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            if method == b"CONNECT":
                raise httptools.HttpParserError("not a proxy")
            headers = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(headers)))
            data = memoryview(data)[read:]

    def on_header(self, name: bytes, value: bytes) -> None:
        """White space behind a value is none of it (RFC 9112, section 5.1); the parser removes only what is before."""
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Begin to serve the request."""
        self._in_head, self._unparsed = False, 0
        self._end_head()
        if not self.parser.should_upgrade():
            self._check_head()
            super().on_headers_complete()
            self.headers = []  # for the trailers, which are not the request's

    def _check_head(self) -> None:
        """What the parser lets through, and a proxy before us may have understood otherwise (RFC 9112, 3.2 and 6.1)."""
        version = self.parser.get_http_version()
        hosts = [value for name, value in self.headers if name == b"host"]
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if version not in ("1.0", "1.1"):
            raise MalformedRequest("this is not HTTP/1.1", reason="http")
        if len(hosts) != 1 and (hosts or version == "1.1"):
            raise MalformedRequest("a request has exactly one Host", reason="http")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise MalformedRequest("Host is not the name of a host", reason="http")
        if codings not in ([], [b"chunked"]):
            raise MalformedRequest("Transfer-Encoding can be chunked, and nothing else", reason="http")

    def on_body(self, body: bytes) -> None:
        """Hand a piece of the body on."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next byte belongs to another request."""
        self._in_head, self._unparsed = True, 0
        if self.parser.should_upgrade():
            return
        if self._linger_timer:
            self._linger_timer.cancel()
            self._linger_timer = None
            self._keep_alive()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        def on_leave(callback: Callable[[], None]) -> None:
            if cycle.disconnected:
                callback()
            elif not cycle.response_complete:
                self._on_leave = callback

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            scope["mixer.on_leave"] = on_leave
            await app(scope, receive, self._early_send(cycle, send) if cycle.more_body else send)

        self._served, self._on_leave = cycle, None
        super()._start_asgi_task(cycle, serve)  # type: ignore[arg-type]

    def _leave(self, cycle: RequestResponseCycle) -> None:
        """Nobody waits for this answer any more."""
        if cycle.response_complete:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        callback, self._on_leave = self._on_leave, None
        if callback:
            callback()

    def _early_send(self, cycle: RequestResponseCycle, send: Send) -> Send:
        """`send` for a request that is served before its body is here, and may be answered before."""

        async def early_send(message: Message) -> None:
            if cycle.more_body and message["type"] == "http.response.start":
                if cycle.waiting_for_100_continue or _announced(cycle.scope["headers"]) > _SMALL_BODY:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            elif cycle.more_body and not message.get("more_body", False):
                self._closing, cycle.keep_alive = not cycle.keep_alive, True  # or uvicorn would close at once
            await send(message)

        return early_send

    def on_response_complete(self) -> None:
        """Go on to the next request, or wait for the rest of this one."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._linger()

    def shutdown(self) -> None:
        """The server stops: so does this connection, once its client has had the time to read its answer."""
        if self._linger_timer:
            self._linger_timer.cancel()
            self._linger_timer = self.loop.call_later(LAST_SECONDS, self.transport.close)
        else:
            super().shutdown()

    def _linger(self) -> None:
        self._unset_keepalive_if_required()
        self._linger_bytes = LINGER_BYTES
        self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        if self._closing and not self.transport.is_closing():
            self.transport.write_eof()

    def _keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _end_head(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_slow_head(self) -> None:
        self._refuse(RequestTimeout(f"the headers were not complete after {HEAD_SECONDS:g} s"))

    def _refuse(self, error: ServiceError) -> None:
        """Answer what never became a request, and read no more of it."""
        self._end_head()
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle and not cycle.response_complete:
            if not cycle.more_body:  # it is whole, and what is refused came after it
                cycle.keep_alive = False
                return
            self._leave(cycle)
            if cycle.response_started:
                self.transport.close()
                return
        # Of the request whose body this is about, or else of the head, as far as it is known.
        asked = cycle and not cycle.response_complete
        scope: Scope = dict(cycle.scope) if asked else {"headers": self.headers or ()}
        path: str = scope.get("path") or getattr(self, "url", b"").partition(b"?")[0].decode("latin-1")
        request_id = request_id_of(scope)
        told = {"client": self.client and self.client[0], "request_id": request_id}
        log.info("%d %s", error.status, error.message, extra=told)
        status, headers, body = render_error(path, error, request_id)
        headers = [*self.server_state.default_headers, *headers, (b"connection", b"close")]
        lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body]
        self.transport.write(b"".join(lines))
        self._closing = True
        self._linger()


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """Bytes of the body, infinite where they are not said."""
    length = next((value for name, value in headers if name == b"content-length"), b"")
    return int(length) if length.isdigit() else float("inf")
