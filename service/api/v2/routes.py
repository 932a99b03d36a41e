"""The Open Inference Protocol's routes."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from service import __version__
from service.api.parameters import InferParameters, NoParameters
from service.api.schemas import V2Error
from service.api.v2 import describe
from service.api.v2.infer import infer
from service.api.v2.schemas import (
    AllStatistics,
    InferResponse,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from service.api.v2.statistics import statistics
from service.models.classifier import Classifier
from service.models.replica import Replica

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

_VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}


def _version(request: Request) -> str | None:
    """The version in a path that has one; raises MalformedRequest for a query, which the protocol does not have."""
    NoParameters.of(request.scope)
    return request.path_params.get("version")


Version = Annotated[str | None, Depends(_version)]
_MODEL = ("/models/{model}", "/models/{model}/versions/{version}")


def _route(*paths: str, statuses: tuple[int, ...], method: str = "GET", **options: Any) -> Callable[..., Any]:
    """Serve a function at each path; `statuses` are those of its errors.

    A function for a model has the same name with "version" in it where the path names the version.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        responses = {status: {"model": V2Error} for status in statuses} | options.pop("responses", {})
        extra = {"parameters": []} | options.pop("openapi_extra", {})
        for path in paths:
            name, parameters = function.__name__, extra["parameters"]
            if "{version}" in path:
                name, parameters = name.replace("model_", "model_version_"), [*parameters, _VERSION]
            router.add_api_route(
                path,
                function,
                methods=[method],
                name=name,
                responses=responses,
                response_model_exclude_none=True,
                openapi_extra=extra | {"parameters": parameters},
                **options,
            )
        return function

    return register


@_route("", statuses=(401,))
async def server_metadata(request: Request) -> ServerMetadata:
    """The server, and what of the protocol it has."""
    request.app.state.api_keys.check(request.scope)
    return ServerMetadata(name="mixer-serving", version=__version__, extensions=describe.EXTENSIONS)


@_route("/health/live", statuses=(503,))
async def server_live(request: Request) -> ServerLive:
    """Whether the event loop runs and no model has lost its lanes for good; if not, restart the process."""
    _replica(request).check_live()
    return ServerLive(live=True)


@_route("/health/ready", statuses=(503,))
async def server_ready(request: Request) -> ServerReady:
    """Whether to send traffic: every model has a lane that is proven on golden images, and no shutdown has begun."""
    _replica(request).check_ready()
    return ServerReady(ready=True)


@_route("/models/stats", statuses=(401,))
async def all_statistics(request: Request) -> AllStatistics:
    """Cumulative statistics of every model."""
    replica = _replica(request)
    request.app.state.api_keys.check(request.scope)
    return statistics(replica.models.classifiers)


@_route(*_MODEL, statuses=(400, 401, 404))
async def model_metadata(request: Request, model: str, version: Version = None) -> ModelMetadata:
    """A model's inputs, of which a request has exactly one, and outputs."""
    return describe.metadata(_find(request, model, version), _versions(request, model))


@_route(*(f"{path}/ready" for path in _MODEL), statuses=(400, 404, 503))
async def model_ready(request: Request, model: str, version: Version = None) -> ModelReady:
    """Whether a model can answer."""
    replica = _replica(request)
    classifier = replica.models.find(model, version)
    replica.check_ready()
    return ModelReady(name=classifier.manifest.name, ready=True)


@_route(*(f"{path}/config" for path in _MODEL), statuses=(400, 401, 404))
async def model_config(request: Request, model: str, version: Version = None) -> ModelConfig:
    """How a model runs here: its batching, the engine and why it was chosen, and how long its passes take."""
    classifier = _find(request, model, version)
    return describe.config(classifier, _versions(request, model), _replica(request).settings)


@_route(*(f"{path}/stats" for path in _MODEL), statuses=(400, 401, 404))
async def model_statistics(request: Request, model: str, version: Version = None) -> AllStatistics:
    """Cumulative statistics of one version of a model, or of each."""
    classifier = _find(request, model, version)
    return statistics([classifier] if version else _replica(request).models.versions(model))


_BINARY = {"schema": {"type": "string", "format": "binary"}}


@_route(
    *(f"{path}/infer" for path in _MODEL),
    method="POST",
    statuses=(400, 401, 404, 413, 415, 422, 429, 500, 503, 504),
    response_model=InferResponse,
    responses={200: {"content": {"application/octet-stream": _BINARY}}},
    openapi_extra={
        "parameters": InferParameters.described(),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
                "application/octet-stream": _BINARY,
            },
        },
    },
)
async def model_infer(request: Request, model: str, version: Version = None) -> Response:
    """Logits, probabilities or features of all images of a request, or one error."""
    return await infer(request, _find(request, model, version), InferParameters.of(request.scope))


def _replica(request: Request) -> Replica:
    replica: Replica = request.app.state.replica
    return replica


def _find(request: Request, model: str, version: str | None) -> Classifier:
    replica = _replica(request)
    request.app.state.api_keys.check(request.scope)
    return replica.models.find(model, version)


def _versions(request: Request, model: str) -> list[str]:
    return [classifier.manifest.version for classifier in reversed(_replica(request).models.versions(model))]
