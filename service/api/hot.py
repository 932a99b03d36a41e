"""The two routes that carry the load, for whoever hands them their requests without the framework's layers."""

from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Scope

from service.api.v1 import classify
from service.api.v2.routes import model_infer

_CLASSIFY = "/v1/classify"
_INFER = "/v2/models/{model}/infer"
_INFER_VERSION = "/v2/models/{model}/versions/{version}/infer"


def hot(scope: Scope) -> tuple[str, Callable[[Request], Awaitable[Response]]] | None:
    """The route, as the metrics name it, and the endpoint of a request that is for one of them; or None."""
    if scope["method"] != "POST":
        return None
    path: str = scope["path"]
    if path == _CLASSIFY:
        return _CLASSIFY, classify
    match path.split("/"):
        case ["", "v2", "models", model, "infer"] if model:
            return _INFER, partial(model_infer, model=model)
        case ["", "v2", "models", model, "versions", version, "infer"] if model and version:
            return _INFER_VERSION, partial(model_infer, model=model, version=version)
    return None
