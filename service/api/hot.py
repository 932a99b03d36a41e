"""The two routes that carry the load, for whoever hands them their requests without the framework's layers."""

from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.types import Scope

from service.api.api_keys import ApiKeys
from service.api.parameters import ClassifyParameters, InferParameters
from service.api.plain import Answered, classify_plain, is_plain
from service.api.v1 import classify
from service.api.v2.routes import model_infer
from service.errors import MalformedRequest, ServiceError, UnknownModel
from service.models.replica import Replica

_CLASSIFY = "/v1/classify"
_INFER = "/v2/models/{model}/infer"
_INFER_VERSION = "/v2/models/{model}/versions/{version}/infer"

Endpoint = Callable[[Request], Awaitable[Response]]
PlainEndpoint = Callable[[Scope, bytes, Answered], None]


class HotRoutes:
    """Routes and endpoints of a replica that lets in whom `api_keys` do."""

    def __init__(self, replica: Replica, api_keys: ApiKeys) -> None:
        self._replica = replica
        self._api_keys = api_keys

    def find(self, scope: Scope) -> tuple[str, Endpoint] | None:
        """The route, as the metrics name it, and the endpoint of a request that is for one of them; or None."""
        found = _find(scope)
        if not found:
            return None
        route, model, version = found
        if route == _CLASSIFY:
            return route, classify
        return route, partial(model_infer, model=model, version=version)

    def find_plain(self, scope: Scope, size: int) -> tuple[str, PlainEndpoint] | None:
        """The route and the endpoint of a request, with a body of `size` bytes, that needs no task; or None."""
        if scope["path"] != _CLASSIFY or scope["method"] != "POST":
            return None
        if not is_plain(scope, size, self._replica.settings.max_body_bytes):
            return None
        return _CLASSIFY, partial(classify_plain, self._replica.models, self._api_keys)

    @property
    def full(self) -> bool:
        """Whether somebody was refused lately."""
        return self._replica.admission.full

    def refusal(self, scope: Scope, body: bytes | bytearray) -> tuple[str, ServiceError] | None:
        """The route, and why a request that is here is refused; None where a look is too little, or it may be let in.

        For the latter a place is held, in "mixer.held", until its task has begun.
        """
        admission = self._replica.admission
        found = _find(scope)
        if not found or not self._api_keys.know(scope):  # to look for a place may end somebody's stalled upload
            return None
        route, model, version = found
        try:
            asked = (ClassifyParameters if route == _CLASSIFY else InferParameters).of(scope)
            if isinstance(asked, ClassifyParameters):
                model, version = asked.model, asked.version
            classifier = self._replica.models.find(model, version)
            plain = route == _CLASSIFY and is_plain(scope, len(body), self._replica.settings.max_body_bytes)
            ticket = classifier.promises.ticket(
                asked.deadline_seconds,
                asked.priority,
                scope.get("mixer.since"),
                image=memoryview(body) if plain else None,
                size=len(body),
            )
            error = admission.refusal(classifier, ticket)
            if not error:
                admission.hold(classifier, ticket)
                scope["mixer.held"] = classifier, ticket
                return None
            self._api_keys.check(scope)
        except (RequestValidationError, MalformedRequest, UnknownModel):
            return None
        except ServiceError as unaccepted:
            return route, unaccepted.with_traceback(None)  # whose frames know it: see `known_error`
        scope.setdefault("state", {})["model"] = classifier.reference  # for the log line
        classifier.metrics.count_rejection(error.reason)
        classifier.statistics.request_failed(0.0)
        return route, error


def _find(scope: Scope) -> tuple[str, str | None, str | None] | None:
    """Route, model and version; None for the latter two stands for the default."""
    if scope["method"] != "POST":
        return None
    path: str = scope["path"]
    if path == _CLASSIFY:
        return _CLASSIFY, None, None
    match path.split("/"):
        case ["", "v2", "models", model, "infer"] if model:
            return _INFER, model, None
        case ["", "v2", "models", model, "versions", version, "infer"] if model and version:
            return _INFER_VERSION, model, version
    return None
