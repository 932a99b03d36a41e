"""Wiring: settings -> replica -> FastAPI application."""

import http
import logging
import platform
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import onnxruntime
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from service import __version__
from service.admission import Admission
from service.api_keys import ApiKeys
from service.bundle import BundleError, find_bundles, load_bundle
from service.classifier import Classifier
from service.cores import allowed_cores, thread_budget
from service.engine import Engine
from service.errors import EngineFailure, MalformedRequest, ServiceError
from service.golden import measure_pass_seconds
from service.metrics import Metrics
from service.onnx_engine import OnnxEngine
from service.replica import Replica
from service.routes import router
from service.scheduler import EngineRunner, Scheduler
from service.settings import Settings
from service.telemetry import Telemetry

log = logging.getLogger(__name__)

# Seconds; a pass is called hung only beyond this and beyond twenty times what it took at start.
_SHORTEST_HANG = 10.0

EngineFactory = Callable[[Path, int, list[str]], Engine]


def build_replica(settings: Settings, metrics: Metrics, make_engine: EngineFactory = OnnxEngine) -> Replica:
    """Load, verify, warm up and prove every model.

    Raises BundleError, EngineError or GoldenMismatch if one cannot be served, OSError or ValueError if the API
    keys file is unusable.
    """
    cores = allowed_cores()
    if settings.threads > max(1, cores):
        raise ValueError(f"MIXER_THREADS {settings.threads} exceeds the {cores:g} cores allowed")
    budget = thread_budget(cores, settings.threads)
    log.info("thread budget", extra={"thread_budget": str(budget)})
    metrics.cores.set(budget.cores)
    metrics.engine_threads.set(budget.engine_threads)
    metrics.decode_threads.set(budget.decode_threads)
    metrics.build_info.labels(__version__, onnxruntime.__version__, platform.python_version()).set(1)
    runner = EngineRunner()
    decode_pool = ThreadPoolExecutor(budget.decode_threads, thread_name_prefix="decode")

    def load(path: Path) -> Classifier:
        bundle = load_bundle(path)
        manifest = bundle.manifest
        if (manifest.name, manifest.version) != (path.parent.name, path.name):
            raise BundleError(f"{path}: its manifest calls it {manifest.name}/{manifest.version}")
        engine = make_engine(bundle.model_path, budget.engine_threads, settings.providers)
        curve = measure_pass_seconds(engine, manifest.image_size, settings.max_batch_size)
        capacity = max(size / seconds for size, seconds in curve.items())
        scheduler = Scheduler(
            manifest.name,
            engine,
            runner,
            max_batch_size=settings.max_batch_size,
            longest_pass=max(_SHORTEST_HANG, 20 * max(curve.values())),
            metrics=metrics,
        )
        classifier = Classifier(
            bundle,
            decode_pool=decode_pool,
            max_pixels=settings.max_pixels,
            scheduler=scheduler,
            images_per_second=capacity,
            metrics=metrics,
        )
        error = classifier.golden.check(engine.run(classifier.golden.pixels))
        metrics.add_model(
            manifest.name,
            budget.cores,
            capacity,
            version=manifest.version,
            variant=manifest.variant,
            precision=manifest.precision,
            provider=settings.providers[0],
            sha256=manifest.files["model.onnx"],
        )
        log.info(
            "serving %s/%s",
            manifest.name,
            manifest.version,
            extra={
                "golden_max_abs_error": error,
                "pass_ms": {size: round(seconds * 1000, 3) for size, seconds in curve.items()},
                "images_per_second": round(capacity, 1),
            },
        )
        return classifier

    return Replica(
        settings=settings,
        metrics=metrics,
        api_keys=ApiKeys(settings.api_keys_file),
        admission=Admission(settings.max_inflight_images, settings.deadline_ms / 1000, metrics),
        runner=runner,
        classifiers=[load(path) for path in find_bundles(settings.model_repository, settings.models)],
    )


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
    app.add_middleware(Telemetry, replica=replica)
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
    return JSONResponse({"error": body}, error.status, headers)


async def _on_invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    causes = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
    return await _on_service_error(request, MalformedRequest(causes, reason="parameter"))


async def _on_http_exception(_: Request, error: Exception) -> Response:
    """The framework's own refusals: no such route, method not allowed."""
    assert isinstance(error, HTTPException)
    code = http.HTTPStatus(error.status_code).name.lower()
    return JSONResponse({"error": {"code": code, "message": error.detail}}, error.status_code, error.headers)
