"""The door before the framework: whoever would be refused is refused while the request has cost next to nothing."""

import json
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge.telemetry import SAFE_HEADERS, request_id_of
from service.errors import NotReady, Overloaded, UnknownModel, error_json
from service.models.classifier import Classifier
from service.models.replica import Replica

_CLASSIFY = "/v1/classify"
_INFER = re.compile(r"/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?/infer/?")


class Shedding:
    """ASGI middleware around everything else. Under a flood, 429s through the whole framework would be the load.

    Nothing is let in here: whoever passes is looked at again, and counted, inside. Requests that name a model in their
    query are left to the framework, and so is whatever is malformed. API keys are looked at inside too: that we are
    full is no secret, and an answer costs a stranger's flood, and us, the least here.
    """

    def __init__(self, app: ASGIApp, replica: Replica) -> None:
        self._app = app
        self._replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            classifier, route = self._addressed(scope)
            error = classifier and self._refusal(scope, classifier)
            if classifier and error:
                await self._refuse(scope, send, classifier, route, error)
                return
        await self._app(scope, receive, send)

    def _addressed(self, scope: Scope) -> tuple[Classifier | None, str]:
        """Whose images the request has, if it has any, and its route's name in the metrics."""
        if b"model=" in scope["query_string"] or b"version=" in scope["query_string"]:
            return None, ""
        if scope["path"] == _CLASSIFY:
            return self._replica.classifiers[0], _CLASSIFY
        match = _INFER.fullmatch(scope["path"])
        if not match:
            return None, ""
        name, version = match.group("model", "version")
        route = "/v2/models/{model}/versions/{version}/infer" if version else "/v2/models/{model}/infer"
        try:
            return self._replica.find(name, version), route
        except UnknownModel:
            return None, ""

    def _refusal(self, scope: Scope, classifier: Classifier) -> Overloaded | None:
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

    async def _refuse(self, scope: Scope, send: Send, classifier: Classifier, route: str, error: Overloaded) -> None:
        metrics = self._replica.metrics
        metrics.count_rejection(classifier.scheduler.model, error.reason)
        classifier.scheduler.statistics.request_failed(0.0)
        metrics.requests.labels(route, error.status).inc()
        body = json.dumps(error_json(scope, error.body())).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(error.retry_after).encode()),
            (b"x-request-id", request_id_of(scope).encode()),
            (b"server-timing", b"total;dur=0"),
            *SAFE_HEADERS,
        ]
        if self._replica.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
