"""Wiring: settings -> replica -> application."""

import importlib.metadata
import platform
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from service import __version__
from service.api import docs_routes, features, models, pages, v1
from service.api.api_keys import ApiKeys
from service.api.hot import HotRoutes
from service.api.openapi import completed
from service.api.v2 import repository
from service.api.v2 import routes as v2
from service.edge.cross_origin import CrossOrigin
from service.edge.edge import Edge
from service.edge.rendering import on_error, on_http_exception
from service.edge.request_log import RequestLog
from service.errors import ServiceError
from service.host import allowed_cores, memory_limit
from service.lanes.process import ForkedLane, Spawn
from service.metrics import Metrics
from service.models.lifecycle import Lifecycle
from service.models.loader import Loader
from service.models.registry import LoadedModels
from service.models.replica import Replica
from service.scheduling.admission import Admission
from service.scheduling.loop_lag import LoopLag
from service.scheduling.pass_log import PassLog
from service.scheduling.shared_cores import SharedCores
from service.settings import Settings


def build_replica(
    settings: Settings, metrics: Metrics, spawn: Spawn = ForkedLane, make_room: Callable[[], bool] = lambda: False
) -> Replica:
    """A replica that has loaded nothing yet; `spawn` starts its lanes, `make_room` ends an upload that stalls."""
    metrics.build_info.labels(__version__, importlib.metadata.version("onnxruntime"), platform.python_version()).set(1)
    cores = allowed_cores()
    loop_lag, pass_log = LoopLag(metrics.front_cpu_seconds.inc), PassLog()
    shared_cores = SharedCores(max(1, int(cores)))
    admission = Admission(settings.max_inflight_images, settings.max_inflight_bytes, make_room)
    loader = Loader(settings, cores, memory_limit(), spawn, shared_cores, admission, metrics, pass_log, loop_lag)
    loaded = LoadedModels(settings.models, metrics)
    metrics.inflight_images.set_function(lambda: admission.inflight)
    return Replica(
        settings=settings,
        cores=cores,
        metrics=metrics,
        loader=loader,
        admission=admission,
        models=loaded,
        lifecycle=Lifecycle(settings, loader, loaded, admission),
        pass_log=pass_log,
        loop_lag=loop_lag,
    )


def create_api(replica: Replica) -> FastAPI:
    """The routes around a replica; the lifespan's end answers every ticket.

    Raises ValueError if a file of keys is unusable.
    """
    settings, metrics = replica.settings, replica.metrics

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await replica.close()

    api = FastAPI(
        title="Mixer serving",
        version=__version__,
        summary="MLP-Mixer image classification",
        openapi_url=None,  # docs_routes.py has it, and
        docs_url=None,  # this
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # what generated clients call their functions
        servers=[{"url": settings.root_path or "/"}],
        redirect_slashes=False,  # to wherever the Host header says, past any proxy
        lifespan=lifespan,
    )
    api.root_path = settings.root_path  # uvicorn's would stand before every path, whatever the proxy does
    api.state.replica = replica
    api.state.api_keys = ApiKeys(settings.api_keys_file, metrics)
    api.state.admin_keys = None  # nobody may change what is loaded
    if settings.admin_keys_file:
        api.state.admin_keys = ApiKeys(settings.admin_keys_file, metrics, "MIXER_ADMIN_KEYS_FILE")
    for routes in (v1, features, models, v2, pages, repository, docs_routes):
        api.include_router(routes.router)
    key_needed = bool(settings.api_keys_file)
    api.state.description = cache(lambda: bytes(JSONResponse(completed(api.openapi(), key_needed=key_needed)).body))
    for error in (ServiceError, RequestValidationError, Exception):
        api.add_exception_handler(error, on_error)
    api.add_exception_handler(HTTPException, on_http_exception)
    return api


def with_edge(api: FastAPI) -> ASGIApp:
    """The application as it is served: what stands around every request, the outermost last.

    Raises ValueError if tracing is asked for and its variables are unusable.
    """
    replica: Replica = api.state.replica
    settings = replica.settings
    hot = HotRoutes(replica, api.state.api_keys)
    app: ASGIApp = Edge(api, replica.metrics, lambda: replica.draining, hot, RequestLog(settings.log_requests))
    if settings.tracing:
        from service.edge.tracing import Tracing, tracer_provider  # noqa: PLC0415 - an optional dependency

        app = Tracing(app, tracer_provider())
    if settings.cors_origins:  # so that pages may read refusals as well
        app = CrossOrigin(app, settings.cors_origins)
    return app
