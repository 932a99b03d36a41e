"""Which requests have a log line, and what it says."""

import logging

from service.errors import FAILED, EngineFailure, Overloaded, ServiceError
from service.settings import LoggedRequests

log = logging.getLogger(__name__)

# Asked again and again, or for each visitor of the page. What their failures tell has a line where it happens.
_QUIET = (
    "/healthz/live",
    "/healthz/ready",
    "/v2/health/live",
    "/v2/health/ready",
    "/page/status",
    "/page/{file}",
    "/page/samples/{model}/{version}/{number}",
    "/docs/{file}",
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)


class RequestLog:
    """The lines of requests, by `MIXER_LOG_REQUESTS`."""

    def __init__(self, logged: LoggedRequests) -> None:
        self._logged = logged

    def leaves_out(self, status: int) -> bool:
        """Whether no request with this status has a line."""
        well = status < FAILED or status == Overloaded.status
        return self._logged == "off" or (self._logged == "errors" and well)

    def tell(self, what: str, status: int, seconds: float, error: ServiceError | None, **fields: object) -> None:
        """Write the line of a request for `what` (method and route), unless it has none; fields of None are left out.

        A fault of ours has one whatever the route is.
        """
        quiet = what.partition(" ")[2] in _QUIET and status != EngineFailure.status
        if quiet or self.leaves_out(status):
            return
        told = {**fields, "status": status, "ms": round(seconds * 1000, 3)}
        if error:
            told |= {"code": error.code, "reason": error.reason}
        log.info("%s %d", what, status, extra={name: value for name, value in told.items() if value is not None})
