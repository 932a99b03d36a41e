"""The methods: what REST's routes answer, by another wire."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import Request
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from pydantic import BaseModel

from service.api.body import parsed
from service.api.door import Visit
from service.api.parameters import InferParameters
from service.api.v2 import routes
from service.api.v2.infer import outputs
from service.api.v2.names import widths
from service.api.v2.schemas import AllStatistics, ModelConfig
from service.errors import MalformedRequest, NotReady, UnknownRoute
from service.grpc_api.calls import Answer, Receive
from service.grpc_api.envelope import open_envelope
from service.grpc_api.messages import HEALTH, SERVICE, methods
from service.grpc_api.request import read_request
from service.grpc_api.response import write_response
from service.models.replica import Replica
from service.settings import LONGEST_DEADLINE_MS
from service.timings import StageTimings

_NO_TIME = 1e-9  # seconds, fewer than any pass takes: the call is refused as one that is too late
_OPEN = {"ServerLiveRequest", "ServerReadyRequest", "ModelReadyRequest", "HealthCheckRequest"}  # without a key
_LONGEST = 64 * 2**10  # bytes of a message that says no more than names

Fields = dict[str, Any]  # of an answer
Endpoint = Callable[..., Awaitable[BaseModel | Fields]]  # of a request and its message


async def model_infer(request: Request, receive: Receive) -> bytes:
    """Logits, probabilities or features of all images of a request, or one error."""
    request.app.state.api_keys.check(request.scope)
    asked = InferParameters.of(request.scope)
    message = await receive()
    size, envelope = len(message), open_envelope(message)
    replica: Replica = request.app.state.replica
    classifier = replica.models.find(envelope.model, envelope.version or None)
    manifest = classifier.manifest
    reading = partial(read_request, envelope, manifest.image_size, widths(manifest))
    with Visit(request.scope, classifier, _seconds(request, asked), asked.priority) as visit:
        visit.charge(size)
        understood = parsed(reading, size)
        del message, envelope, reading  # encoded images are copies of it, which else would be held as long as they are
        inference, given, size = await outputs(request, classifier, visit, understood)
    return await parsed(partial(write_response, inference, manifest, classifier.labels, given), size)


def _seconds(request: Request, asked: InferParameters) -> float | None:
    """What is left of the time to answer: the call's, or a header's that says less."""
    given = [seconds for seconds in (request.scope["mixer.seconds"], asked.deadline_seconds) if seconds]
    if not given:
        return None
    timings: StageTimings = request.state.timings
    return max(min(*given, LONGEST_DEADLINE_MS / 1000) - timings.total, _NO_TIME)


def _of_server(endpoint: Endpoint) -> Endpoint:
    return lambda request, _: endpoint(request)


def _of_model(endpoint: Endpoint) -> Endpoint:
    return lambda request, asked: endpoint(request, asked.name, asked.version or None)


async def _model_config(request: Request, asked: Any) -> Fields:
    config: ModelConfig = await routes.model_config(request, asked.name, asked.version or None)
    return {"config": config.model_dump(exclude_none=True)}


async def _model_statistics(request: Request, asked: Any) -> AllStatistics:
    if not asked.name:
        statistics: AllStatistics = await routes.all_statistics(request)
    else:
        statistics = await routes.model_statistics(request, asked.name, asked.version or None)
    return statistics


async def _check(request: Request, asked: Any) -> Fields:
    replica: Replica = request.app.state.replica
    checks = dict.fromkeys(("", "readiness", SERVICE), replica.check_ready) | {"liveness": replica.check_live}
    if asked.service not in checks:
        raise UnknownRoute(f"no such service; there are {', '.join(name for name in checks if name)}")
    checks[asked.service]()
    return {"status": "SERVING"}


_NOT_READY = {"ready": False, "live": False, "status": "NOT_SERVING"}  # in the words of each that says so

_DESCRIBED: dict[str, dict[str, Endpoint]] = {
    SERVICE: {
        "ServerLive": _of_server(routes.server_live),
        "ServerReady": _of_server(routes.server_ready),
        "ModelReady": _of_model(routes.model_ready),
        "ServerMetadata": _of_server(routes.server_metadata),
        "ModelMetadata": _of_model(routes.model_metadata),
        "ModelConfig": _model_config,
        "ModelStatistics": _model_statistics,
    },
    HEALTH: {"Check": _check},
}


def answers() -> dict[str, Answer]:
    """By a method's path, for all that the .proto files promise."""
    return {
        f"/{service}/{name}": partial(_answer, *kinds, described[name]) if name in described else model_infer
        for service, described in _DESCRIBED.items()
        for name, kinds in methods(service).items()
    }


async def _answer(kind: Any, answer: Any, endpoint: Endpoint, request: Request, receive: Receive) -> bytes:
    name, keys = kind.DESCRIPTOR.name, request.app.state.api_keys
    if name not in _OPEN and not keys.know(request.scope):
        keys.check(request.scope)  # which says so; the endpoint would, once the message is here
    message = await receive()
    if len(message) > _LONGEST:
        raise MalformedRequest(f"a {name} of {len(message)} bytes says more than names", reason="message")
    try:
        asked = kind.FromString(message)
    except DecodeError:
        raise MalformedRequest(f"the message is not a {name}", reason="message") from None
    try:
        found = await endpoint(request, asked)
    except NotReady:
        found = _NOT_READY
    fields = found.model_dump(exclude_none=True) if isinstance(found, BaseModel) else found
    return bytes(ParseDict(fields, answer(), ignore_unknown_fields=True).SerializeToString())
