"""Pages of other origins (CORS), where the operator lets them in."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge.rendering import SAFE_HEADERS, error_response
from service.edge.request_id import request_id_of
from service.errors import MalformedRequest

_METHODS = ("GET", "HEAD", "OPTIONS", "POST")
# What a page of another origin may send, beyond what every page may, and read. Libraries in pages add headers of their
# own to every request: those that trace it, and those that say that a script sent it or that caches should keep out.
_REQUEST_HEADERS = (
    "Authorization", "Content-Encoding", "Inference-Header-Content-Length",
    "X-Api-Key", "X-Deadline-Ms", "X-Priority", "X-Request-Id",
    "Traceparent", "Tracestate", "Baggage", "B3", "X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled",
    "X-B3-Flags", "Sentry-Trace", "Elastic-Apm-Traceparent", "Newrelic", "Request-Id", "Request-Context",
    "Uber-Trace-Id", "X-Amzn-Trace-Id", "X-Cloud-Trace-Context", "X-Correlation-Id", "X-Datadog-Origin",
    "X-Datadog-Parent-Id", "X-Datadog-Sampling-Priority", "X-Datadog-Trace-Id",
    "Cache-Control", "Pragma", "Expires", "X-Requested-With",
)  # fmt: skip
_RESPONSE_HEADERS = ("Inference-Header-Content-Length", "Retry-After", "Server-Timing", "X-Request-Id")


class CrossOrigin(CORSMiddleware):
    """Starlette's, for what the routes take and give; a preflight that is refused gets an error like any other."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        """`origins` are those whose pages may use every route, or `*`.

        They may from a wider network than this one as well, about which browsers ask with
        Access-Control-Request-Private-Network (WICG, Private Network Access).
        """
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
            allow_private_network=True,
            expose_headers=_RESPONSE_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """What the browser is told before a page's request."""
        return _Preflight(super().preflight_response(request_headers))


class _Preflight(Response):
    """As every answer is: with an id, and JSON if it is an error."""

    def __init__(self, answer: Response) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answer
        if answer.status_code == MalformedRequest.status:
            error = MalformedRequest(bytes(answer.body).decode(), reason="cross_origin")
            allowed = {name: answer.headers[name] for name in answer.headers if not name.startswith("content-")}
            answer = error_response(scope, error)
            answer.headers.update(allowed)
        answer.raw_headers += [
            (b"x-request-id", request_id_of(scope).encode()),
            (b"server-timing", b"total;dur=0"),
            *SAFE_HEADERS,
        ]
        await answer(scope, receive, send)
