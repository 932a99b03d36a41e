"""Wiring: settings -> replica -> FastAPI application."""

import http
import logging
import platform
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import onnxruntime
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from service import __version__
from service.api import docs_routes
from service.api import pages as page_routes
from service.api.api_keys import ApiKeys
from service.api.openapi import with_keys
from service.api.v1 import router
from service.api.v2 import repository as repository_routes
from service.api.v2.routes import router as v2_router
from service.bundles.bundle import BundleError, find_bundles
from service.edge.cross_origin import CrossOrigin
from service.edge.shedding import Shedding
from service.edge.telemetry import Telemetry
from service.engines.choice import candidates, choose_engine
from service.engines.measuring import measure_decode_seconds, thread_budget
from service.errors import EngineFailure, MalformedRequest, ServiceError, error_json
from service.host import allowed_cores, check_memory
from service.images.preprocess import preparation
from service.lanes.decode_pool import DecodePool, PixelBudget
from service.lanes.engine_thread import EngineRunner
from service.lanes.shared_cores import Turns
from service.metrics import Metrics
from service.models.lifecycle import Reloader
from service.models.loader import LARGEST_BATCH, FindEngines, Loader, VerifiedModel, verify_model
from service.models.registry import LoadedModels
from service.models.replica import Replica
from service.scheduling.admission import Admission
from service.scheduling.forecast import Prediction
from service.scheduling.loop_lag import LoopLag
from service.scheduling.pass_log import PassLog
from service.settings import Settings

log = logging.getLogger(__name__)

_FEWEST_TO_SPLIT = 2  # cores


def build_replica(settings: Settings, metrics: Metrics, find_engines: FindEngines = candidates) -> Replica:
    """Load, verify, measure, warm up and prove every model.

    Raises BundleError, EngineError or GoldenMismatch if one cannot be served, MemoryError if they do not fit in the
    memory limit, OSError or ValueError if a file of keys is unusable.
    """
    metrics.build_info.labels(__version__, onnxruntime.__version__, platform.python_version()).set(1)
    cores = allowed_cores()
    if settings.threads > max(1, cores):
        raise ValueError(f"MIXER_THREADS {settings.threads} exceeds the {cores:g} cores allowed")
    api_keys = ApiKeys(settings.api_keys_file, metrics)
    admin_keys = None
    if settings.admin_keys_file:
        admin_keys = ApiKeys(settings.admin_keys_file, metrics, "MIXER_ADMIN_KEYS_FILE")
    pixel_budget = PixelBudget(settings.max_inflight_pixels)
    try:
        paths = find_bundles(settings.model_repository, settings.models)
    except BundleError as error:
        raise BundleError(f"MIXER_MODEL_REPOSITORY {error}") from None
    check_memory([path / "model.onnx" for path in paths])
    verified = [verify_model(path, settings.max_pixels, pixel_budget) for path in paths]
    decode_seconds = measure_decode_seconds(preparation(verified[0].bundle.manifest.preprocessing, sys.maxsize))
    engine_seconds = decode_seconds
    if cores >= _FEWEST_TO_SPLIT and not settings.threads:
        engine_seconds = _seconds_on_one_thread(verified[0], find_engines, settings)
    budget = thread_budget(cores, settings.threads, engine_seconds, decode_seconds)
    log.info("thread budget", extra={"thread_budget": str(budget)})
    metrics.cores.set(budget.cores)
    turns = None if budget.decode_threads else Turns(LARGEST_BATCH)
    runner = EngineRunner(turns)
    decode_pool = DecodePool(budget.decode_threads or budget.engine_threads, decode_seconds, turns)
    pass_log = PassLog()
    loader = Loader(settings, find_engines, budget.engine_threads, runner, decode_pool, pixel_budget, metrics, pass_log)
    models = LoadedModels(settings.models, metrics, budget.cores)
    models.change(add=[loader.build(model) for model in verified])
    metrics.engine_threads.set(budget.engine_threads)  # once loading is over: alerts on replicas look here
    metrics.decode_threads.set(budget.decode_threads)
    loop_lag = LoopLag(metrics.event_loop_cpu_seconds.inc)
    admission = Admission(
        settings.max_inflight_images, settings.max_inflight_bytes, Prediction(decode_pool, loop_lag), metrics
    )
    return Replica(
        settings=settings,
        cores=budget.cores,
        metrics=metrics,
        api_keys=api_keys,
        admin_keys=admin_keys,
        admission=admission,
        runner=runner,
        models=models,
        reloader=Reloader(settings, loader, models, admission, metrics),
        pass_log=pass_log,
        loop_lag=loop_lag,
    )


def _seconds_on_one_thread(model: VerifiedModel, find_engines: FindEngines, settings: Settings) -> float:
    engines = find_engines(model.bundle, 1, settings)
    return choose_engine(engines, model.golden.prove, model.bundle.manifest.image_size, 1).curve[1]


def create_app(replica: Replica) -> FastAPI:
    """The HTTP application around a built replica; its lifespan starts the schedulers and answers every ticket.

    Raises ValueError if tracing is asked for and its variables are unusable.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        replica.start()
        try:
            yield
        finally:
            await replica.close()

    app = FastAPI(
        title="Mixer serving",
        version=__version__,
        summary="MLP-Mixer image classification",
        docs_url=None,  # docs_routes.py has it
        redoc_url=None,
        redirect_slashes=False,  # to wherever the Host header says, past any proxy
        lifespan=lifespan,
    )
    app.root_path = replica.settings.root_path  # uvicorn's would stand before every path, whatever the proxy does
    app.state.replica = replica
    app.include_router(router)
    app.include_router(v2_router)
    app.include_router(page_routes.router)
    app.include_router(repository_routes.router)
    app.include_router(docs_routes.router)
    describe, keys_needed = app.openapi, bool(replica.settings.api_keys_file)
    app.openapi = lambda: with_keys(describe(), needed=keys_needed)  # type: ignore[method-assign]
    app.add_middleware(Telemetry, replica=replica)
    if replica.settings.tracing:
        from service.edge.tracing import Tracing, tracer_provider  # noqa: PLC0415 - an optional dependency

        app.add_middleware(Tracing, provider=tracer_provider())
    app.add_middleware(Shedding, replica=replica)
    if replica.settings.cors_origins:  # outermost, so that pages may read refusals as well
        app.add_middleware(CrossOrigin, origins=replica.settings.cors_origins)
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameter)
    app.add_exception_handler(HTTPException, _on_http_exception)
    return app


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    headers = error.headers | ({"retry-after": str(error.retry_after)} if error.retry_after else {})
    body = error.body()
    if isinstance(error, EngineFailure):  # a fault of ours, which the log has under this id
        body["message"] += f"; the request id is {request.state.request_id}"
    return JSONResponse(error_json(request.scope, body), error.status, headers)


async def _on_invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    causes = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
    return await _on_service_error(request, MalformedRequest(causes, reason="parameter"))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own refusals: no such route, method not allowed; the latter answers OPTIONS."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        methods = {*headers.get("Allow", "").split(", "), "OPTIONS"} - {""}
        headers["Allow"] = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
        if request.method == "OPTIONS":
            return Response(status_code=http.HTTPStatus.NO_CONTENT, headers=headers)
    body = {"code": http.HTTPStatus(error.status_code).name.lower(), "message": str(error.detail)}
    return JSONResponse(error_json(request.scope, body), error.status_code, headers)
