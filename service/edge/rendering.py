"""How every error looks, wherever it was raised: in the connection, in an endpoint, or in the framework."""

import http
import json

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from service.errors import EngineFailure, MalformedRequest, ServiceError, error_json

# On every answer: kept by nobody, unless a route says otherwise, and never taken for what it does not say it is.
SAFE_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

Headers = list[tuple[bytes, bytes]]
Rendered = tuple[int, Headers, bytes]  # status, headers and body


def render_error(path: str, error: ServiceError, request_id: str, seconds: float = 0.0) -> Rendered:
    """The status, headers and body of an answer that no layer adds anything to.

    `path` is as much of the request's as is known. `seconds` is the time since the request began.
    """
    headers, body = error_content({"path": path}, error)
    headers += [
        *SAFE_HEADERS,
        (b"x-request-id", request_id.encode()),
        (b"server-timing", b"total;dur=%.2f" % (seconds * 1000)),
    ]
    return error.status, headers, body


def error_response(scope: Scope, error: ServiceError) -> Response:
    """The answer to a request, for the framework."""
    headers, body = error_content(scope, error)
    response = Response(body, error.status)
    response.raw_headers = headers
    return response


def error_content(scope: Scope, error: ServiceError) -> tuple[Headers, bytes]:
    """The headers and the body of the answer to a request; under /v2 the body is that protocol's."""
    fields = error.body()
    request_id = scope.get("state", {}).get("request_id")
    if isinstance(error, EngineFailure) and request_id:  # a fault of ours, which the log has under this id
        fields["message"] += f"; the request id is {request_id}"
    body = json.dumps(error_json(scope, fields)).encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    if error.retry_after:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    return headers, body


def known_error(error: Exception) -> ServiceError | None:
    """What an exception is to a client; None if it is a fault of ours.

    An error forgets where it was raised: its frames hold the image, and know it, and so would wait for the collector.
    """
    if isinstance(error, ServiceError):
        error.__context__ = None
        return error.with_traceback(None)
    if isinstance(error, RequestValidationError):
        causes = "; ".join(f"{cause['loc'][-1]}: {cause['msg']}" for cause in error.errors())
        return MalformedRequest(causes, reason="parameter")
    return None


async def on_error(request: Request, error: Exception) -> Response:
    """The framework's handler of what an endpoint raises; the edge logs what is a fault of ours."""
    known = known_error(error) or EngineFailure("an internal error")
    request.scope.setdefault("state", {})["error"] = known
    return error_response(request.scope, known)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own refusals: no such route, method not allowed; the latter answers OPTIONS."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        methods = {*headers.get("Allow", "").split(", "), "OPTIONS"} - {""}
        headers["Allow"] = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
        if request.method == "OPTIONS":
            return Response(status_code=http.HTTPStatus.NO_CONTENT, headers=headers)
    fields = {"code": http.HTTPStatus(error.status_code).name.lower(), "message": str(error.detail)}
    request.scope.setdefault("state", {})["code"] = fields["code"]
    body = json.dumps(error_json(request.scope, fields))
    return Response(body, error.status_code, headers, media_type="application/json")
