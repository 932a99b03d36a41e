"""Around every request: its id, Server-Timing, metrics, log line, and one rendering of every error."""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.edge.rendering import SAFE_HEADERS, error_response, known_error
from service.edge.request_id import request_id_of
from service.edge.request_log import RequestLog
from service.errors import EngineFailure
from service.metrics import Metrics
from service.timings import StageTimings

log = logging.getLogger(__name__)

_SLASHES = re.compile("//+")

Endpoint = Callable[[Request], Awaitable[Response]]


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
        hot: Callable[[Scope], tuple[str, Endpoint] | None],
        request_log: RequestLog,
    ) -> None:
        """`hot` finds route and endpoint of a request that is not for the framework."""
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
            scope = {**scope, "path": _SLASHES.sub("/", path).rstrip("/") or "/"}
        timings = StageTimings()
        request_id = request_id_of(scope)
        state = scope.setdefault("state", {})
        state.update(timings=timings, request_id=request_id)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                message["headers"] = [
                    *headers,
                    *SAFE_HEADERS[any(name == b"cache-control" for name, _ in headers) :],
                    (b"x-request-id", request_id.encode()),
                    (b"server-timing", timings.server_timing().encode()),
                ]
                if self._is_draining():  # a keep-alive client moves to another replica
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            if hot := self._hot(scope):
                path, endpoint = hot
                scope["app"], scope["route"] = self._app, Route(path)
                response = await endpoint(Request(scope, receive))
                await response(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except Exception as error:
            known = known_error(error)
            if known is None:
                log.exception("request %s failed", request_id)
                known = EngineFailure("an internal error")
            state["error"] = known
            if status == 0:
                await error_response(scope, known)(scope, receive, send_with_headers)
        finally:
            self._count(scope, status, timings)

    def _count(self, scope: Scope, status: int, timings: StageTimings) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.count_request(route, status, timings.total, timings.stages.get("receive"))
        state = scope["state"]
        told = {name: state.get(name) for name in ("request_id", "model", "images", "code")}
        self._request_log.tell(f"{scope['method']} {route}", status, timings.total, state.get("error"), **told)
