"""What is in the model repository, and loading it: the Open Inference Protocol's model repository extension."""

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request

from service.api.body import read_body
from service.api.deadline import deadline
from service.api.schemas import V2Error
from service.errors import Forbidden, MalformedRequest
from service.models.lifecycle import BundleState
from service.models.replica import Replica

router = APIRouter(prefix="/v2/repository", tags=["Model repository"])

_MAX_BODY_BYTES = 64 * 2**10


@router.post("/index", responses={status: {"model": V2Error} for status in (400, 401, 409, 413, 504)})
async def repository_index(request: Request) -> list[BundleState]:
    """Every version of every model in the repository; with `{"ready": true}` only those that serve."""
    replica: Replica = request.app.state.replica
    request.app.state.api_keys.check(request.scope)
    ready = (await _body(request)).get("ready") or False
    if not isinstance(ready, bool):
        raise MalformedRequest("ready must be true or false", reason="parameter")
    states = await replica.lifecycle.index()
    return [state for state in states if state.state == "READY" or not ready]


@router.post(
    "/models/{model}/load", responses={s: {"model": V2Error} for s in (400, 401, 403, 404, 409, 413, 503, 504)}
)
async def load_model(request: Request, model: str) -> list[BundleState]:
    """Load a model, or what is new or has changed of it, beside what serves; answers once it serves."""
    replica: Replica = request.app.state.replica
    _check_admin(request)
    parameters = (await _body(request)).get("parameters")
    if any(value is not None for value in parameters.values()) if isinstance(parameters, dict) else parameters:
        raise MalformedRequest("a model is loaded as its bundle is: there are no parameters", reason="parameter")
    await replica.lifecycle.load(model)
    return [state for state in await replica.lifecycle.index() if state.name == model]


@router.post("/models/{model}/unload", responses={s: {"model": V2Error} for s in (401, 403, 404, 409, 503)})
async def unload_model(request: Request, model: str) -> list[BundleState]:
    """Unload every version of a model; those inside are answered."""
    replica: Replica = request.app.state.replica
    _check_admin(request)
    await replica.lifecycle.unload(model)
    return [state for state in await replica.lifecycle.index() if state.name == model]


def _check_admin(request: Request) -> None:
    if request.app.state.admin_keys is None:
        raise Forbidden("models are not loaded by request here: the operator has set no MIXER_ADMIN_KEYS_FILE")
    request.app.state.admin_keys.check(request.scope)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object in the body, or an empty one for an empty body."""
    settings = request.app.state.replica.settings
    async with deadline(asyncio.get_running_loop().time() + settings.deadline_ms / 1000):
        data = await read_body(request, min(_MAX_BODY_BYTES, settings.max_body_bytes))
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise MalformedRequest("the body must be a JSON object, or empty", reason="json")
    return body
