"""What a connection takes in: heads within bounds, one request at a time, offers to upgrade ignored.

It overrides private parts of uvicorn's protocol; tests/service/edge/test_connection.py fails where those change.
"""

import asyncio
import math
import re
import time
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.edge.turns import Turns
from service.errors import HeadersTooLarge, MalformedRequest, RequestTimeout, ServiceError

HEAD_BYTES = 64 * 2**10  # of headers, of trailers, of what frames a chunk; what is read at once with it may pass
HEAD_LINES = 256  # of headers, and of trailers: each costs time of its own
HEAD_SECONDS = 10.0  # from a head's first byte to its last
# What comes behind a request that is not answered yet is kept as bytes. Beyond this no more of it is read.
WAITING_BYTES = 16 * 2**10
# A body may come in this many pieces, and in one more for every so many bytes: each costs time and memory of its own.
FREE_PIECES = 256
PIECE_BYTES = 64
_SLICE = 2**10  # bytes given to the parser at once, which begins every request that is in them
_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*")  # RFC 3986, section 3.2, without a user


class _Flow(FlowControl):
    """uvicorn's, whose every request resumes reading, whatever waits behind it."""

    full = False

    def resume_reading(self) -> None:
        if not self.full:
            super().resume_reading()


class ReadingProtocol(HttpToolsProtocol):
    """The half of a connection that reads; `refuse` and `_start` are the other half's."""

    flow: _Flow

    def __init__(self, *args: Any, turns: Turns, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turns = turns
        self._unfed = memoryview(b"")  # read, and not parsed yet
        self._in_head = True  # or before one
        self._head_begun = False
        self._unparsed = 0  # bytes since a head or a piece of a body was complete
        self._pieces = self._received = 0  # of the body
        self._announced = 0.0  # bytes of the body; infinite where the head does not say
        self._body_left = 0  # of these, where it does
        self._head_timer: asyncio.TimerHandle | None = None
        self._held_back = False  # from reading, until its turn comes
        self._since = 0.0  # when what is parsed had come (of `time.monotonic`, which is the event loop's)
        self._closing = False  # no more requests are read

    def refuse(self, error: ServiceError) -> None:
        """Answer what never became a request, or not all of one, and read no more of it."""
        raise NotImplementedError

    def _start(self) -> None:
        """Serve the request that has begun, if one has."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Bound what is read."""
        super().connection_made(transport)
        self.flow = _Flow(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._end_head()
        self._turns.leave(self)
        self._unfed = memoryview(b"")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, within bounds."""
        self._unset_keepalive_if_required()
        if not self._closing:
            self._unfed = memoryview(bytes(self._unfed) + data if self._unfed else data)
            self._turns.take(self, len(data))
            if self in self._turns and len(self._unfed) > WAITING_BYTES:
                self._held_back = True
                self.flow.pause_reading()

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def read_at_once(self) -> None:
        """Read what waits for its turn, if anything does."""
        since = self._turns.leave(self)
        if since is not None:
            self.read_on(since)

    def read_on(self, since: float | None = None) -> None:
        """Parse what was read, up to the end of a request that is not answered yet, or a little more."""
        if self.transport.is_closing():
            return
        self._since = time.monotonic() if since is None else since
        if self._held_back:
            self._held_back = False
            self.flow.resume_reading()
        while self._unfed and self._parses and not self._closing:
            self._feed_slice()
        self._start()
        self.flow.full = len(self._unfed) > WAITING_BYTES
        if self.flow.full:
            self.flow.pause_reading()
        elif not self.cycle or self.cycle.response_complete or not self.cycle.more_body:
            self.flow.resume_reading()  # or nobody would learn that the client leaves
        begun = self._head_begun or (self._in_head and self._unparsed)
        if begun and self._parses and not self._head_timer and not self._closing:
            self._unset_keepalive_if_required()
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._on_slow_head)

    @property
    def _parses(self) -> bool:
        """Whether the next byte is of a request that may begin, or of one that has."""
        cycle = self.cycle
        return not self.pipeline and (cycle is None or cycle.more_body or cycle.response_complete)

    def _feed_slice(self) -> None:
        piece = self._unfed[: self._body_left or self._end_of_head()]
        self._unparsed += len(piece)
        try:
            self._feed(piece)
        except httptools.HttpParserError as error:
            ours = error.__context__  # raised where the parser called
            if not isinstance(ours, ServiceError):
                http2 = self.parser.get_method() == b"PRI"
                ours = MalformedRequest(f"this is {'HTTP/2 and ' * http2}not HTTP/1.1", reason="http")
            self._give_up(ours.with_traceback(None))  # whose frames know it: see `known_error`
            return
        self._unfed = self._unfed[len(piece) :] or memoryview(b"")  # an empty part would hold all that was read
        if self._unparsed > HEAD_BYTES:
            self._give_up(HeadersTooLarge(f"the headers exceed {HEAD_BYTES} bytes"))

    def _end_of_head(self) -> int:
        """Bytes up to the end of a head, so that its body comes in one piece, or of a slice."""
        end = bytes(self._unfed[:_SLICE]).find(b"\r\n\r\n") if self._in_head else -1
        return _SLICE if end < 0 else end + 4

    def _feed(self, data: memoryview) -> None:
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
            data = data[read:]

    def _give_up(self, error: ServiceError) -> None:
        self._stop_reading()
        self.refuse(error)

    def _stop_reading(self) -> None:
        self._closing, self._unfed = True, memoryview(b"")
        self._end_head()

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        super().on_message_begin()
        self._head_begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """White space behind a value is none of it (RFC 9112, section 5.1); the parser removes only what is before."""
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        if len(self.headers) > HEAD_LINES:
            raise HeadersTooLarge(f"there are more than {HEAD_LINES} headers")

    def on_headers_complete(self) -> None:
        """Begin to serve the request."""
        self._in_head, self._head_begun, self._unparsed = False, False, 0
        self._pieces = self._received = self._body_left = 0
        self._end_head()
        if not self.parser.should_upgrade():
            self._check_head()
            self._body_left = int(self._announced) if self._announced < math.inf else 0
            super().on_headers_complete()
            self.headers = []  # for the trailers, which are not the request's

    def _check_head(self) -> None:
        """What the parser lets through, and a proxy before us may have understood otherwise (RFC 9112, 3.2 and 6.1)."""
        version = self.parser.get_http_version()
        hosts, codings, self._announced = [], [], 0
        for name, value in self.headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"content-length":
                self._announced = int(value)  # the parser has looked at it
            elif name == b"transfer-encoding":
                codings.append(value.lower())
                self._announced = math.inf
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
        self._pieces += 1
        self._received += len(body)
        self._body_left = max(0, self._body_left - len(body))
        if self._pieces > FREE_PIECES + self._received / PIECE_BYTES:
            raise MalformedRequest(
                f"the body's {self._received} bytes come in {self._pieces} pieces; send larger ones", reason="pieces"
            )
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next byte belongs to another request."""
        self._in_head, self._unparsed = True, 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _end_head(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_slow_head(self) -> None:
        self._give_up(RequestTimeout(f"the headers were not complete after {HEAD_SECONDS:g} s"))
