"""Before the framework does any work: refuse what the event loop alone would make late."""

from types import SimpleNamespace

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Overloaded
from service.replica import Replica

_ROUTE = SimpleNamespace(path="/v1/classify")
_NOTHING = 0.005  # seconds: less than any deadline that is meant


class Shedding:
    """ASGI middleware. Under a flood, answering 429 through the whole framework would itself be the load."""

    def __init__(self, app: ASGIApp, replica: Replica) -> None:
        self._app = app
        self._replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        lost = self._replica.loop_lag.on_the_way
        if lost < _NOTHING or scope["type"] != "http" or scope["path"] != _ROUTE.path or lost <= self._deadline(scope):
            await self._app(scope, receive, send)
        else:
            scope["route"] = _ROUTE
            self._replica.admission.refuse_unseen(self._replica.classifiers[0].scheduler)
            error = Overloaded("too many requests arrive at once", reason="event_loop", retry_after=1)
            headers = {"retry-after": str(error.retry_after)}
            await JSONResponse({"error": error.body()}, error.status, headers)(scope, receive, send)

    def _deadline(self, scope: Scope) -> float:
        """Seconds that the client gives, as far as they can be read; the framework judges malformed ones."""
        given = next((value for name, value in scope["headers"] if name == b"x-deadline-ms"), b"")
        try:
            return float(given) / 1000
        except ValueError:
            return self._replica.settings.deadline_ms / 1000
