"""Every way a request can fail, and the only place that knows status codes.

    ServiceError
    |-- MalformedRequest      400  the request cannot be understood
    |-- Unauthorized          401  API key missing or unknown
    |-- Forbidden             403  what the operator has not enabled
    |-- UnknownModel          404  no such model or version is loaded
    |-- UnknownRoute          404  a route that is not enabled
    |-- NotAcceptable         406  the client takes no JSON
    |-- RequestTimeout        408  the headers or the body took too long
    |-- NotLoaded             409  a model of the repository cannot be loaded or unloaded; what served goes on
    |-- PayloadTooLarge       413  body over the limit
    |   `-- ImageTooLarge     413  pixels over the limit, read from the header before decoding
    |-- UnsupportedImage      415  not an accepted image format
    |-- UnsupportedEncoding   415  a body compressed in no way that is understood
    |-- InvalidImage          422  an accepted format that does not decode
    |-- Overloaded            429  over capacity: retry after the time given
    |   `-- RateLimited       429  one API key asks more often than it may: retry after the time given
    |-- HeadersTooLarge       431  headers over the limit
    |-- ClientGone            499  the client left before its answer (nobody reads this one)
    |-- EngineFailure         500  a fault of ours
    |-- NotReady              503  not ready, or shutting down
    `-- DeadlineExceeded      504  the deadline passed before the answer

Messages are public: they describe the request, never our internals. `outcome` is the label under which the
image is counted in `mixer_images_total`; None means that no image was admitted.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

_GRPC = {  # the status of a gRPC call that ends with one of HTTP's: grpc/doc/statuscodes.md; of any other INTERNAL
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "UNAVAILABLE",
    409: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    431: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
SUCCEEDED = 200
FAILED = 400  # and above: what a status of HTTP says where there is no answer (RFC 9110, section 15)


class ServiceError(Exception):
    """Base of all failures that a client may see."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    outcome: ClassVar[str | None] = None
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, message: str, *, reason: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason  # machine-readable detail
        self.retry_after = retry_after  # seconds

    @property
    def grpc_status(self) -> str:
        """The name of the status of a gRPC call that fails so."""
        return _GRPC.get(self.status, "INTERNAL")

    def body(self) -> dict[str, str]:
        """The fields of the JSON error object."""
        fields = {"code": self.code, "message": self.message}
        return fields | {"reason": self.reason} if self.reason else fields


class MalformedRequest(ServiceError):
    """The request cannot be understood."""

    status, code, outcome = 400, "malformed_request", "invalid"


class Unauthorized(ServiceError):
    """The API key is missing or unknown."""

    status, code = 401, "unauthorized"
    headers: ClassVar[dict[str, str]] = {"www-authenticate": "Bearer"}  # RFC 9110, section 15.5.2


class Forbidden(ServiceError):
    """The operator has not enabled this."""

    status, code = 403, "forbidden"


class UnknownModel(ServiceError):
    """No such model or version is loaded."""

    status, code = 404, "unknown_model"


class UnknownRoute(ServiceError):
    """No such route, or none that is enabled."""

    status, code = 404, "not_found"


class NotLoaded(ServiceError):
    """A model of the repository cannot be loaded or unloaded as it is; what served before goes on serving."""

    status, code = 409, "not_loaded"


class NotAcceptable(ServiceError):
    """The client's Accept leaves out JSON, which is all there is."""

    status, code = 406, "not_acceptable"


class RequestTimeout(ServiceError):
    """The headers, or the body, took too long to arrive."""

    status, code = 408, "request_timeout"


class PayloadTooLarge(ServiceError):
    """The body exceeds the limit."""

    status, code, outcome = 413, "payload_too_large", "invalid"


class ImageTooLarge(PayloadTooLarge):
    """The image's header announces more pixels than are accepted."""

    code = "image_too_large"


class UnsupportedImage(ServiceError):
    """The bytes are not in an accepted image format."""

    status, code, outcome = 415, "unsupported_image", "invalid"


class UnsupportedEncoding(ServiceError):
    """The body is compressed in no way that is understood."""

    status, code, outcome = 415, "unsupported_encoding", "invalid"
    headers: ClassVar[dict[str, str]] = {"accept-encoding": "gzip, deflate"}  # RFC 9110, section 15.5.16


class InvalidImage(ServiceError):
    """The bytes announce an accepted format but do not decode."""

    status, code, outcome = 422, "invalid_image", "invalid"


class Overloaded(ServiceError):
    """Accepting the image would exceed capacity."""

    status, code, outcome = 429, "over_capacity", "rejected"


class RateLimited(Overloaded):
    """An API key has used up its rate."""

    code = "rate_limited"


class HeadersTooLarge(ServiceError):
    """The headers exceed the limit."""

    status, code = 431, "headers_too_large"


class ClientGone(ServiceError):
    """The client closed its connection before the answer."""

    status, code, outcome = 499, "client_gone", "cancelled"


class EngineFailure(ServiceError):
    """The engine failed on this image, alone in its pass."""

    status, code, outcome = 500, "internal", "error"


class NotReady(ServiceError):
    """The service cannot answer now: starting, failing its self-check, or shutting down."""

    status, code, outcome = 503, "not_ready", "rejected"


class DeadlineExceeded(ServiceError):
    """The deadline passed before the answer was ready."""

    status, code, outcome = 504, "deadline_exceeded", "expired"


def error_json(scope: Mapping[str, Any], fields: dict[str, str]) -> dict[str, object]:
    """The JSON body of an error, whose fields these are; under /v2 the protocol wants its message alone."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return {"error": fields["message"] if path == "/v2" or path.startswith("/v2/") else fields}
