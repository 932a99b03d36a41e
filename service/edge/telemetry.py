"""Around every request: its id, Server-Timing, metrics, log line, and a clear 500 for faults of ours."""

import json
import logging
import re
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import EngineFailure, error_json
from service.models.replica import Replica
from service.timings import StageTimings

log = logging.getLogger(__name__)

# On every answer: kept by nobody, unless a route says otherwise, and never taken for what it does not say it is.
SAFE_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Telemetry:
    """ASGI middleware; handlers find the request's StageTimings in `request.state.timings`."""

    def __init__(self, app: ASGIApp, replica: Replica) -> None:
        self._app = app
        self._replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # a GET, whose body the server keeps to itself
        timings = StageTimings()
        request_id = request_id_of(scope)
        scope.setdefault("state", {}).update(timings=timings, request_id=request_id)
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
                if self._replica.draining:  # a keep-alive client moves to another replica
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log.exception("request %s failed", request_id)
            if status == 0:
                await _send_internal_error(scope, send_with_headers, request_id)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._replica.metrics.requests.labels(route, status).inc()
            self._replica.metrics.request_duration.labels(route).observe(timings.total)
            if "receive" in timings.stages:
                self._replica.metrics.stage_duration.labels("receive").observe(timings.stages["receive"])
            log.info(
                "%s %s %d",
                scope["method"],
                route,
                status,
                extra={"request_id": request_id, "timing_ms": timings.milliseconds()},
            )


def request_id_of(scope: Scope) -> str:
    """The client's own id if it is harmless, else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


async def _send_internal_error(scope: Scope, send: Send, request_id: str) -> None:
    failure = EngineFailure(f"an internal error; the request id is {request_id}")
    body = json.dumps(error_json(scope, failure.body())).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": failure.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
