"""Wiring: settings -> replica -> FastAPI application."""

import http
import logging
import platform
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import onnxruntime
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from service import __version__, page_routes, v2_routes
from service.admission import Admission
from service.api_keys import ApiKeys
from service.bundle import Bundle, BundleError, find_bundles, load_bundle
from service.calibration import best_batch_size, best_rate, measure_decode_seconds, warm_up
from service.classifier import Classifier, Patience
from service.cores import allowed_cores, thread_budget
from service.decode_pool import DecodePool, PixelBudget
from service.engines import Build, Choice, candidates, choose_engine
from service.errors import EngineFailure, MalformedRequest, ServiceError
from service.golden import GoldenImages
from service.loop_lag import LoopLag
from service.metrics import Metrics
from service.pass_log import PassLog
from service.pass_times import PassTimes
from service.preprocess import Prepare, preparation
from service.replica import Replica
from service.routes import router
from service.scheduler import BatchPolicy, EngineRunner, Scheduler
from service.settings import Settings
from service.shedding import Shedding
from service.telemetry import Telemetry
from service.turns import Turns

log = logging.getLogger(__name__)

# Seconds; a pass is called hung only beyond this and beyond twenty times what it took at start.
_SHORTEST_HANG = 10.0
_LARGEST_BATCH = 16  # of those that MAX_BATCH_SIZE 0 chooses among
_FEWEST_TO_SPLIT = 2  # cores

Candidates = Callable[[Bundle, int, Settings], dict[str, list[Build]]]


def build_replica(settings: Settings, metrics: Metrics, find_engines: Candidates = candidates) -> Replica:
    """Load, verify, measure, warm up and prove every model.

    Raises BundleError, EngineError or GoldenMismatch if one cannot be served, OSError or ValueError if the API
    keys file is unusable.
    """
    cores = allowed_cores()
    if settings.threads > max(1, cores):
        raise ValueError(f"MIXER_THREADS {settings.threads} exceeds the {cores:g} cores allowed")
    api_keys = ApiKeys(settings.api_keys_file)
    bundles = [_load(path) for path in find_bundles(settings.model_repository, settings.models)]
    pixel_budget = PixelBudget(settings.max_inflight_pixels)
    prepares = [preparation(bundle.manifest.preprocessing, settings.max_pixels, pixel_budget) for bundle in bundles]
    goldens = [GoldenImages(bundle, prepare) for bundle, prepare in zip(bundles, prepares, strict=True)]

    def choose(bundle: Bundle, golden: GoldenImages, threads: int, max_batch_size: int) -> Choice:
        engines = find_engines(bundle, threads, settings)
        return choose_engine(engines, golden.prove, bundle.manifest.image_size, max_batch_size)

    decode_seconds = measure_decode_seconds(preparation(bundles[0].manifest.preprocessing, sys.maxsize))
    engine_seconds = decode_seconds
    if cores >= _FEWEST_TO_SPLIT and not settings.threads:
        engine_seconds = choose(bundles[0], goldens[0], 1, 1).curve[1]
    budget = thread_budget(cores, settings.threads, engine_seconds, decode_seconds)
    log.info("thread budget", extra={"thread_budget": str(budget)})
    metrics.cores.set(budget.cores)
    metrics.engine_threads.set(budget.engine_threads)
    metrics.decode_threads.set(budget.decode_threads)
    metrics.build_info.labels(__version__, onnxruntime.__version__, platform.python_version()).set(1)
    turns = None if budget.decode_threads else Turns(_LARGEST_BATCH)
    runner = EngineRunner(turns)
    decode_pool = DecodePool(budget.decode_threads or budget.engine_threads, decode_seconds, turns)
    pass_log = PassLog()

    def serve(bundle: Bundle, prepare: Prepare, golden: GoldenImages) -> Classifier:
        manifest = bundle.manifest
        choice = choose(bundle, golden, budget.engine_threads, settings.max_batch_size or _LARGEST_BATCH)
        max_batch_size = settings.max_batch_size or best_batch_size(choice.curve)
        warm_up(choice.engine, manifest.image_size, max_batch_size)
        scheduler = Scheduler(
            manifest.name,
            choice.engine,
            runner,
            policy=BatchPolicy(
                max_batch_size,
                max_queue_delay=settings.max_queue_delay_ms / 1000,
                longest_pass=max(_SHORTEST_HANG, 20 * max(choice.curve.values())),
                between_passes=decode_pool.seconds_before_pass,
            ),
            pass_times=PassTimes(choice.curve),
            metrics=metrics,
            pass_log=pass_log,
        )
        metrics.add_model(
            manifest.name,
            budget.cores,
            choice.curve,
            version=manifest.version,
            variant=manifest.variant,
            precision=manifest.precision,
            engine=choice.engine.name,
            sha256=manifest.files["model.onnx"],
        )
        log.info(
            "serving %s/%s on %s",
            manifest.name,
            manifest.version,
            choice.engine.name,
            extra={
                "precision": manifest.precision,
                "engines": choice.considered,
                "golden_max_abs_error": choice.golden_max_abs_error,
                "pass_ms": {size: round(seconds * 1000, 3) for size, seconds in choice.curve.items()},
                "images_per_second": round(best_rate(choice.curve), 1),
                "max_batch_size": max_batch_size,
            },
        )
        return Classifier(
            bundle,
            prepare=prepare,
            golden=golden,
            decode_pool=decode_pool,
            scheduler=scheduler,
            choice=choice,
            patience=Patience(target=settings.latency_target_ms / 1000, deadline=settings.deadline_ms / 1000),
            metrics=metrics,
        )

    classifiers = [serve(*parts) for parts in zip(bundles, prepares, goldens, strict=True)]
    loop_lag = LoopLag()
    if turns:
        turns.images = max(scheduler.max_batch_size for scheduler in runner.schedulers)
    return Replica(
        settings=settings,
        metrics=metrics,
        api_keys=api_keys,
        admission=Admission(settings.max_inflight_images, settings.max_inflight_bytes, decode_pool, metrics, loop_lag),
        runner=runner,
        classifiers=classifiers,
        pass_log=pass_log,
        loop_lag=loop_lag,
    )


def _load(path: Path) -> Bundle:
    bundle = load_bundle(path)
    manifest = bundle.manifest
    if (manifest.name, manifest.version) != (path.parent.name, path.name):
        raise BundleError(f"{path}: its manifest calls it {manifest.name}/{manifest.version}")
    return bundle


def create_app(replica: Replica) -> FastAPI:
    """The HTTP application around a built replica; its lifespan starts the schedulers and answers every ticket."""

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
        root_path=replica.settings.root_path,
        lifespan=lifespan,
    )
    app.state.replica = replica
    app.include_router(router)
    app.include_router(v2_routes.router)
    app.include_router(page_routes.router)
    app.add_middleware(Telemetry, replica=replica)
    app.add_middleware(Shedding, replica=replica)
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameter)
    app.add_exception_handler(HTTPException, _on_http_exception)
    return app


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    headers = {"retry-after": str(error.retry_after)} if error.retry_after else None
    body = error.body()
    if isinstance(error, EngineFailure):  # a fault of ours, which the log has under this id
        body["message"] += f"; the request id is {request.state.request_id}"
    return JSONResponse({"error": _as_v2(request, body)}, error.status, headers)


async def _on_invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    causes = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
    return await _on_service_error(request, MalformedRequest(causes, reason="parameter"))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own refusals: no such route, method not allowed."""
    assert isinstance(error, HTTPException)
    body = {"code": http.HTTPStatus(error.status_code).name.lower(), "message": str(error.detail)}
    return JSONResponse({"error": _as_v2(request, body)}, error.status_code, error.headers)


def _as_v2(request: Request, body: dict[str, str]) -> dict[str, str] | str:
    """The protocol under /v2 wants an error to be its message alone."""
    return body["message"] if request.url.path.startswith("/v2/") else body
