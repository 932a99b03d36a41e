"""Pages of other origins (CORS), where the operator lets them in."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge.telemetry import SAFE_HEADERS, request_id_of
from service.errors import MalformedRequest, error_json

_METHODS = ("GET", "HEAD", "OPTIONS", "POST")
# What a page of another origin may send, beyond what every page may, and read.
_REQUEST_HEADERS = (
    "Authorization", "Content-Encoding", "Inference-Header-Content-Length",
    "X-Api-Key", "X-Deadline-Ms", "X-Priority", "X-Request-Id",
)  # fmt: skip
_RESPONSE_HEADERS = ("Inference-Header-Content-Length", "Retry-After", "Server-Timing", "X-Request-Id")


class CrossOrigin(CORSMiddleware):
    """Starlette's, for what the routes take and give; a preflight that is refused gets an error like any other."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        """`origins` are those whose pages may use every route, or `*`."""
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
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
            answer = JSONResponse(error_json(scope, error.body()), error.status, allowed)
        answer.raw_headers += [
            (b"x-request-id", request_id_of(scope).encode()),
            (b"server-timing", b"total;dur=0"),
            *SAFE_HEADERS,
        ]
        await answer(scope, receive, send)
