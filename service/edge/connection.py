"""One HTTP/1.1 connection, where uvicorn trusts its clients: who leaves, does not read, or is refused while it sends.

It overrides private parts of uvicorn's protocol; tests/service/edge/test_connection.py fails where those change.
"""

import asyncio
import fcntl
import logging
import termios
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from service.edge.connection_table import ConnectionTable
from service.edge.linger import LAST_SECONDS, Linger
from service.edge.listener import is_closed_by_peer
from service.edge.reading import ReadingProtocol
from service.edge.rendering import render_error
from service.edge.request_id import request_id_of
from service.edge.request_log import RequestLog
from service.edge.sending import Sending
from service.edge.uploads import Upload
from service.edge.write_watch import WriteWatch
from service.errors import Overloaded, ServiceError
from service.settings import LONGEST_DEADLINE_MS

log = logging.getLogger(__name__)

LATE_SECONDS = 2.0  # after its deadline that a request may have its answer, while the server stops
_SMALL_BODY = 2**20  # bytes; sooner thrown away to the end than a new connection is made
_PROBES = (b"/healthz/", b"/v2/health/")


class HttpProtocol(ReadingProtocol):
    """One connection; for `uvicorn.Config(http=partial(HttpProtocol, table=..., ...))`.

    A request's ASGI scope has, beyond the standard's:
    - "mixer.on_leave", a function that takes one callback (the last one given counts) and calls it once if the client
      leaves before its answer is complete, or at once if it has left already;
    - "mixer.upload", the Upload of its body, if it has one;
    - "mixer.since", when it had come (loop time), before it waited for its turn to be read;
    - "mixer.refusal", once the connection has answered in the application's place: the ServiceError.
    The application may put the time of its deadline there, as "mixer.deadline" (loop time): so long a server that stops
    waits for the answer. Without it that is what X-Deadline-Ms says, or `deadline_seconds`. An application that says
    that it is `full` is asked whether to `turn_away` a request (scope, body -> the Rendered refusal, or None) before it
    is called; one that can `serve_plain` (scope, body, Sending -> whether it does) is not called where it does. Its
    `send` is a `Sending`.
    """

    def __init__(
        self, *args: Any, table: ConnectionTable, deadline_seconds: float, request_log: RequestLog, **kwargs: Any
    ) -> None:
        super().__init__(*args, turns=table.turns, **kwargs)
        self._table = table
        self._request_log = request_log
        self._deadline_seconds = deadline_seconds
        self._served: RequestResponseCycle | None = None  # with pipelined requests behind it, not uvicorn's cycle
        self._served_since = 0.0
        self._on_leave: Callable[[], None] | None = None
        self._upload: Upload | None = None
        self._waiting_to_start: ASGIApp | None = None  # the request that is served, once what was read is parsed
        self._came_late = False  # when there were too many connections
        self._linger: Linger
        self._watch: WriteWatch
        self._last_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that never speaks is kept as long as one between two requests."""
        super().connection_made(transport)
        self._linger = Linger(transport.close)
        self._watch = WriteWatch(transport)
        self._keep_alive()
        self._table.enter(self)
        self._came_late = self._table.crowded()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever serves a request of this client, and leave nothing behind."""
        self._unset_keepalive_if_required()
        self._stop_timers()
        self._linger.end()
        self._table.leave(self)
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._served:
            self._leave(self._served)
        self._served = self.cycle = self.scope = None  # type: ignore[assignment]  # which know this: see `_forget`

    def data_received(self, data: bytes) -> None:
        """Read on, or throw away what a client sends that has its refusal."""
        if self._linger.active:
            self._linger.spend(len(data))
        super().data_received(data)

    def _check_head(self) -> None:
        super()._check_head()
        self._table.busy(self)
        if self._came_late and self._table.crowded() and not self.url.startswith(_PROBES):
            raise Overloaded("too many connections are open", reason="connections", retry_after=1)
        self._came_late = False

    def on_body(self, body: bytes) -> None:
        """Hand a piece of the body on, and charge it."""
        super().on_body(body)
        if self._upload and self.cycle is self._served:
            self._table.uploads.receive(self._upload, len(body))

    def on_message_complete(self) -> None:
        """The body is whole: what is still read is another request, if its connection is kept."""
        super().on_message_complete()
        if self.parser.should_upgrade():
            return
        if self._upload and self.cycle is self._served:
            self._table.uploads.complete(self._upload)
        if self._linger.active:
            self._linger.end()
            self._keep_alive()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        self._unset_keepalive_if_required()
        cycle.scope["mixer.since"] = self._since  # type: ignore[typeddict-unknown-key]
        self._served, self._served_since, self._on_leave = cycle, self._since, None
        self._table.busy(self)
        self._waiting_to_start = app

    def _start(self) -> None:
        """Serve the request, or turn it away at once, if it is all here and nothing waits behind it."""
        app, self._waiting_to_start = self._waiting_to_start, None
        cycle = self._served
        if not app or not cycle or cycle.disconnected:
            return
        sending = Sending(cycle, self)
        all_here = not (cycle.more_body or self._unfed or cycle.waiting_for_100_continue or self.flow.write_paused)
        if all_here and getattr(app, "full", False):
            refusal = app.turn_away(cycle.scope, cycle.body)  # type: ignore[attr-defined]
            if refusal:
                sending.write(*refusal)
                return
        received = len(cycle.body)
        if received and all_here and is_closed_by_peer(self.transport.get_extra_info("socket")):
            self._table.ended.labels("half_closed").inc()  # no answer gets out: a lane would have worked for nobody
            self.transport.close()
            return
        if announced := self._announced if cycle.more_body else received:
            address = self.client[0] if self.client else ""
            try:
                self._upload = self._table.uploads.begin(address, announced, self._give_up, self._holds_back, received)
            except Overloaded as error:
                self._stop_reading()
                self._answer_instead(error.with_traceback(None))  # whose frames know this request
                return
            cycle.scope["mixer.upload"] = self._upload  # type: ignore[typeddict-unknown-key]
        cycle.scope["mixer.on_leave"] = partial(self._call_on_leave, cycle)  # type: ignore[typeddict-unknown-key]
        if all_here and hasattr(app, "serve_plain") and app.serve_plain(cycle.scope, cycle.body, sending):
            cycle.body = bytearray()
            return

        async def serve(scope: Scope, receive: Receive, _: Send) -> None:
            try:
                await app(scope, receive, sending)
            finally:
                scope.pop("mixer.on_leave", None)  # by which it knows itself: see `_forget`

        begin = partial(self._begin_task, cycle, serve)
        if self.url.startswith(_PROBES):
            begin()
        else:
            self._turns.begin_task(begin)

    def _begin_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def _call_on_leave(self, cycle: RequestResponseCycle, callback: Callable[[], None]) -> None:
        if cycle.disconnected:
            callback()
        elif not cycle.response_complete:
            self._on_leave = callback

    def _holds_back(self) -> bool:
        """Whether it is not for the client to go on with its body."""
        return self.flow.read_paused or bool(self._served and self._served.waiting_for_100_continue)

    def closes_early(self, cycle: RequestResponseCycle) -> bool:
        """Whether the connection ends with this answer because the rest of the body is too long to throw away."""
        large = cycle.more_body and self._announced > _SMALL_BODY
        return large or cycle.waiting_for_100_continue

    def stay_for_rest(self, cycle: RequestResponseCycle) -> None:
        """The answer's end is about to be sent: do not close at once if more is on its way from the client."""
        if not cycle.keep_alive and self._has_more(cycle):
            self._closing, cycle.keep_alive = True, True  # or uvicorn would close at once
            self.pipeline.clear()
            self.cycle = cycle

    def _has_more(self, cycle: RequestResponseCycle) -> bool:
        """Whether the client is known to send, or to have sent, more than this request that is answered."""
        return bool(cycle.more_body or self._closing or self.pipeline or self._unfed)

    def on_response_complete(self) -> None:
        """Go on to the next request, or wait for the rest of this one."""
        self._forget()
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.cycle.response_complete:
            self._table.idle(self)
            if self._closing or self.cycle.more_body:
                self._begin_linger()
        if self._unfed:
            self._turns.take(self, 0 if self in self._turns else len(self._unfed))
        else:
            self.read_on()

    def pause_writing(self) -> None:
        """Some of an answer is unsent."""
        super().pause_writing()
        self._watch.start(partial(self._abort, "slow_reader"))

    def resume_writing(self) -> None:
        """All is sent."""
        super().resume_writing()
        self._watch.stop()

    def _stop_timers(self) -> None:
        self._watch.stop()
        if self._last_timer:
            self._last_timer.cancel()

    def _abort(self, reason: str) -> None:
        self._stop_timers()  # after a pause of the process both are due, and it ends once
        left = self.transport.get_write_buffer_size()
        told = {"client": self.client and self.client[0], "reason": reason, "unsent_bytes": left}
        log.warning("aborted a connection with %d bytes unsent: %s", left, reason, extra=told)
        self._table.ended.labels(reason).inc()
        self.transport.abort()

    def has_unread(self) -> bool:
        """Whether the kernel holds bytes that came."""
        if self.transport.is_closing():
            return False
        count = array("i", [0])
        fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, count)
        return count[0] > 0

    def give_way(self) -> None:
        """End, since others need the room and nobody is served here."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def seconds_left(self) -> float:
        """Until the request that is served is answered, or is too late; 0 if there is none."""
        if not self._served or self._served.response_complete:
            return 0.0
        scope: Scope = self._served.scope  # type: ignore[assignment]
        if "mixer.deadline" in scope:
            return max(0.0, float(scope["mixer.deadline"]) - self.loop.time())
        seconds = _asked_seconds(scope, self._deadline_seconds)
        return max(0.0, self._served_since + seconds - self.loop.time())

    def shutdown(self) -> None:
        """The server stops: so does this connection, once its client has had the time to read its answer."""
        self.read_at_once()
        left = self.seconds_left()
        self._last_timer = self.loop.call_later(left + LAST_SECONDS + LATE_SECONDS, self._abort, "shutdown")
        if self._linger.active:
            self._linger.hasten()
        elif self._served and not self._served.response_complete:
            self._served.keep_alive = False
        else:
            self.transport.close()

    def _leave(self, cycle: RequestResponseCycle) -> None:
        """Nobody waits for this answer any more."""
        callback = self._on_leave
        self._forget()
        if cycle.response_complete:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if callback:
            callback()

    def _forget(self) -> None:
        """Hold no more of the request, whose images may be megabytes: a connection may idle for long.

        Nor may what holds it hold itself: it would be there until the collector comes, hundreds of connections later.
        """
        self._on_leave = None
        if self._served:
            self._served.body = bytearray()
        if self._upload:
            self._table.uploads.release(self._upload)
            self._upload = None

    def _begin_linger(self) -> None:
        self._unset_keepalive_if_required()
        self._linger.begin()
        if self._closing and not self.transport.is_closing():
            self.flow.full = False
            self.flow.resume_reading()
            self.transport.write_eof()

    def _keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def refuse(self, error: ServiceError) -> None:
        """Answer what never became a request, or not all of one, and read no more of it."""
        if self.transport.is_closing():
            return
        served = self._served
        if served and served.response_complete and served.more_body:  # it has been answered
            self.transport.close()
            return
        if served and not served.response_complete and (served is not self.cycle or not served.more_body):
            self.cycle.keep_alive = False  # it is whole, and what is refused came after it
            return
        self._answer_instead(error)

    def _answer_instead(self, error: ServiceError) -> None:
        """Answer in the application's place, and end."""
        served = self._served
        path = getattr(self, "url", b"").partition(b"?")[0].decode("latin-1")  # as far as it is known
        scope: Scope = {"headers": self.headers or (), "path": path}
        seconds = 0.0
        if served and not served.response_complete:
            scope, seconds = dict(served.scope), self.loop.time() - self._served_since
            served.scope["mixer.refusal"] = error  # type: ignore[typeddict-unknown-key]
            self._leave(served)
            if served.response_started:
                self.transport.close()
                return
        request_id = request_id_of(scope)
        told = {"request_id": request_id, "client": self.client and self.client[0], "detail": error.message}
        self._request_log.tell("refused while reading", error.status, seconds, error, **told)
        self._table.ended.labels(error.reason or error.code).inc()
        status, headers, body = render_error(scope["path"], error, request_id, seconds)
        headers = [*self.server_state.default_headers, *headers, (b"connection", b"close")]
        lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body]
        self.transport.write(b"".join(lines))
        self._table.idle(self)
        self._begin_linger()


def _asked_seconds(scope: Scope, default: float) -> float:
    """How long the client says that it waits."""
    given = next((value for name, value in scope["headers"] if name == b"x-deadline-ms"), b"")
    try:
        return min(max(0.0, float(given)), LONGEST_DEADLINE_MS) / 1000
    except ValueError:
        return default
