"""Around every request: its id, Server-Timing, metrics, log line, and one rendering of every error."""

import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.edge.rendering import SAFE_HEADERS, Headers, Rendered, error_content, error_response, known_error
from service.edge.request_id import request_id_of
from service.edge.request_log import RequestLog
from service.edge.sending import Sending
from service.errors import EngineFailure, ServiceError
from service.metrics import Metrics
from service.timings import StageTimings

log = logging.getLogger(__name__)

_SLASHES = re.compile("//+")

Endpoint = Callable[[Request], Awaitable[Response]]
# Of a request whose body is here; what is called is told the answer or the error, at once or later.
PlainEndpoint = Callable[[Scope, bytes, Callable[[Response | Exception], None]], None]


class HotRoutes(Protocol):
    """The requests that are not for the framework."""

    def find(self, scope: Scope) -> tuple[str, Endpoint] | None:
        """A request's route, as the metrics name it, and endpoint."""

    def find_plain(self, scope: Scope, size: int) -> tuple[str, PlainEndpoint] | None:
        """The same of a request with a body of `size` bytes, if it needs no task."""

    @property
    def full(self) -> bool:
        """Whether somebody was refused lately."""

    def refusal(self, scope: Scope, body: bytes | bytearray) -> tuple[str, ServiceError] | None:
        """Its route and why it is refused, if a look at it tells that it would be."""


class Route(NamedTuple):
    """A route as the metrics name it."""

    path: str


class Edge:
    """ASGI application around the framework's; endpoints find the request's StageTimings in `request.state.timings`.

    The routes that carry the load are handed their requests here, before the framework's own layers, which cost more
    than all else that a request needs of the event loop.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        is_draining: Callable[[], bool],
        hot: HotRoutes,
        request_log: RequestLog,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._is_draining = is_draining
        self._hot = hot
        self._request_log = request_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # a GET, whose body the server keeps to itself
        path: str = scope["path"]
        if "//" in path or (path.endswith("/") and path != "/"):  # as clients write who join addresses carelessly
            scope["path"] = _SLASHES.sub("/", path).rstrip("/") or "/"
        state, timings = self._begin(scope)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._headers(message["headers"], state)
            await send(message)

        try:
            if hot := self._hot.find(scope):
                path, endpoint = hot
                scope["app"], scope["route"] = self._app, Route(path)
                response = await endpoint(Request(scope, receive))
                if isinstance(send, Sending):
                    status = response.status_code
                    await send.whole(status, self._headers(response.raw_headers, state), bytes(response.body))
                else:
                    await response(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except Exception as error:
            known = _known(error, state)
            if status == 0:
                await error_response(scope, known)(scope, receive, send_with_headers)
        finally:
            self._count(scope, status, timings)

    def serve_plain(self, scope: Scope, body: bytes | bytearray, sending: Sending) -> bool:
        """Serve a request that is here with all of its body, if it needs no task; False if it does.

        A task, and coroutines one inside the other, would be a third of what the front spends on an image.
        """
        if not (found := self._hot.find_plain(scope, len(body))):
            return False
        path, endpoint = found
        scope["route"] = Route(path)
        self._begin(scope)
        endpoint(scope, bytes(body), partial(self._answer, scope, sending))
        return True

    def _answer(self, scope: Scope, sending: Sending, answer: Response | Exception) -> None:
        state = scope["state"]
        if isinstance(answer, Exception):
            error = _known(answer, state)
            status, (headers, body) = error.status, error_content(scope, error)
        else:
            status, headers, body = answer.status_code, answer.raw_headers, bytes(answer.body)
        try:
            sending.write(status, self._headers(headers, state), body)
        except Exception:  # a fault of ours: nobody else would end the connection
            log.exception("request %s failed", state["request_id"])
            sending.abort()
        finally:
            self._count(scope, status, state["timings"])

    @property
    def full(self) -> bool:
        """Whether somebody was refused lately: it pays to ask `turn_away`."""
        return self._hot.full

    def turn_away(self, scope: Scope, body: bytes | bytearray) -> Rendered | None:
        """The refusal of a request that can be told at a look to find no room; None: it is to be served.

        It spares the event loop a task and most of the way to the same refusal. Under a flood refusals are most of what
        there is to do.
        """
        if not (refused := self._hot.refusal(scope, body)):
            return None
        path, error = refused
        scope["route"] = Route(path)
        state, timings = self._begin(scope)
        state["error"] = error
        headers, body = error_content(scope, error)
        self._count(scope, error.status, timings)
        return error.status, self._headers(headers, state), body

    def _begin(self, scope: Scope) -> tuple[dict[str, Any], StageTimings]:
        state, timings = scope.setdefault("state", {}), StageTimings(scope.get("mixer.since"))
        state.update(timings=timings, request_id=request_id_of(scope))
        return state, timings

    def _headers(self, headers: Headers, state: dict[str, Any]) -> Headers:
        """An answer's, with those that every answer has."""
        headers = [
            *headers,
            *SAFE_HEADERS[b"cache-control" in [name for name, _ in headers] :],
            (b"x-request-id", state["request_id"].encode()),
            (b"server-timing", state["timings"].server_timing().encode()),
        ]
        if self._is_draining():  # a keep-alive client moves to another replica
            headers.append((b"connection", b"close"))
        return headers

    def _count(self, scope: Scope, status: int, timings: StageTimings) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.count_request(route, status, timings.total, timings.stages.get("receive"))
        if self._request_log.leaves_out(status):  # most have no line, and this is done for each
            return
        state = scope["state"]
        told = {name: state.get(name) for name in ("request_id", "model", "images", "code")}
        self._request_log.tell(f"{scope['method']} {route}", status, timings.total, state.get("error"), **told)


def _known(error: Exception, state: dict[str, Any]) -> ServiceError:
    """What an exception is to the client of a request, which is told to its log line."""
    known = known_error(error)
    if known is None:
        log.error("request %s failed", state["request_id"], exc_info=error)
        known = EngineFailure("an internal error")
    state["error"] = known
    return known
