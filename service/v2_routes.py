"""The Open Inference Protocol's routes."""

from fastapi import APIRouter, Request

from service.replica import Replica
from service.schemas import ModelConfig, V2Error

router = APIRouter(prefix="/v2")


@router.get("/models/{model}/config", responses={status: {"model": V2Error} for status in (401, 404)})
@router.get(
    "/models/{model}/versions/{version}/config", responses={status: {"model": V2Error} for status in (401, 404)}
)
async def config(request: Request, model: str, version: str | None = None) -> ModelConfig:
    """How a model runs here: the engine and why it was chosen, and how long its passes take."""
    replica: Replica = request.app.state.replica
    replica.api_keys.check(request.headers)
    classifier = replica.find(model, version)
    choice, manifest = classifier.choice, classifier.manifest
    return ModelConfig(
        name=manifest.name,
        version=manifest.version,
        precision=manifest.precision,
        max_batch_size=classifier.scheduler.max_batch_size,
        engine=choice.engine.name,
        engines_considered=choice.considered,
        engine_threads=choice.engine.threads,
        pass_seconds=choice.curve,
        images_per_second=classifier.images_per_second,
    )
