"""How an error looks that is answered outside of the framework: as every other one does."""

import json

from service.errors import ServiceError, error_json

# On every answer: kept by nobody, unless a route says otherwise, and never taken for what it does not say it is.
SAFE_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

Headers = list[tuple[bytes, bytes]]


def render_error(path: str, error: ServiceError, request_id: str, seconds: float = 0.0) -> tuple[int, Headers, bytes]:
    """The status, headers and body of the answer to a request for `path`, of which as much is given as is known.

    Under /v2 the body is that protocol's. `seconds` is the time since the request began.
    """
    body = json.dumps(error_json({"path": path}, error.body())).encode()
    headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    if error.retry_after:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    headers += [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *SAFE_HEADERS,
        (b"x-request-id", request_id.encode()),
        (b"server-timing", b"total;dur=%.2f" % (seconds * 1000)),
    ]
    return error.status, headers, body
