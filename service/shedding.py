"""The door before the framework: whoever would be refused is refused while the request has cost next to nothing."""

import json

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import NotReady, Overloaded
from service.replica import Replica
from service.telemetry import request_id_of

_ROUTE = "/v1/classify"


class Shedding:
    """ASGI middleware around everything else. Under a flood, 429s through the whole framework would be the load.

    Nothing is let in here: whoever passes is looked at again, and counted, inside. Requests that name a model are
    left to the framework, and so is whatever is malformed.
    """

    def __init__(self, app: ASGIApp, replica: Replica) -> None:
        self._app = app
        self._replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] == _ROUTE and scope["method"] == "POST":
            error = self._refusal(scope)
            if error:
                await self._refuse(scope, send, error)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Overloaded | None:
        if b"model=" in scope["query_string"] or b"version=" in scope["query_string"]:
            return None
        classifier = self._replica.classifiers[0]
        given = next((value for name, value in scope["headers"] if name == b"x-deadline-ms"), None)
        bulk = (b"x-priority", b"bulk") in scope["headers"]
        try:
            seconds = None if given is None else float(given) / 1000
            if seconds is not None and not seconds > 0:
                return None
            ticket = classifier.ticket(seconds, "bulk" if bulk else "interactive")
            self._replica.admission.check(classifier.scheduler, ticket)
        except Overloaded as error:
            return error
        except (NotReady, ValueError):
            return None
        return None

    async def _refuse(self, scope: Scope, send: Send, error: Overloaded) -> None:
        metrics = self._replica.metrics
        metrics.count_image(self._replica.classifiers[0].scheduler.model, Overloaded.outcome)
        metrics.requests.labels(_ROUTE, error.status).inc()
        body = json.dumps({"error": error.body()}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(error.retry_after).encode()),
            (b"x-request-id", request_id_of(scope).encode()),
            (b"server-timing", b"total;dur=0"),
        ]
        if self._replica.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
