"""The HTTP routes: what to read, whom to ask, how to answer."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from service.classifier import Classification, Classifier
from service.deadline import deadline, unless_client_leaves
from service.errors import ServiceError
from service.intake import read_images
from service.replica import Replica
from service.schemas import (
    ClassifyManyResponse,
    ClassifyResponse,
    ErrorBody,
    ErrorResponse,
    HealthResponse,
    ImageBody,
    ImageResult,
    ModelReference,
    PredictionBody,
)
from service.timings import StageTimings

router = APIRouter()

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_REQUEST_BODY = {
    "required": True,
    "content": {
        "image/*": _BINARY,
        "application/octet-stream": _BINARY,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": {"type": "array", "items": _BINARY["schema"]}},
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": {"type": "string", "format": "byte"}},
            }
        },
    },
}


@router.post(
    "/v1/classify",
    response_model=ClassifyResponse | ClassifyManyResponse,
    responses={status: {"model": ErrorResponse} for status in (400, 401, 404, 413, 415, 422, 429, 500, 503, 504)},
    openapi_extra={"requestBody": _REQUEST_BODY},
)
async def classify(
    request: Request,
    top_k: Annotated[int, Query(ge=1, le=1000, description="how many predictions to answer with")] = 5,
    model: Annotated[str | None, Query(description="model name; the default model if left out")] = None,
    version: Annotated[str | None, Query(description="model version; the loaded one if left out")] = None,
    x_deadline_ms: Annotated[float | None, Header(gt=0, le=600_000, description="time to answer, ms")] = None,
) -> Response:
    """Classify the image in the body, or each image of a multipart form."""
    replica: Replica = request.app.state.replica
    timings: StageTimings = request.state.timings
    replica.api_keys.check(request.headers)
    classifier = replica.find(model, version)
    now, default = asyncio.get_running_loop().time(), replica.settings.deadline_ms / 1000
    at = now + (x_deadline_ms / 1000 if x_deadline_ms else default)

    with replica.admit(classifier) as place:
        # A stalled upload holds its place, and up a shutdown, no longer than the default, whatever its client asks for.
        with timings.stage("receive"):
            async with deadline(min(at, now + default)):
                images = await read_images(request, replica.settings.max_body_bytes)
        async with deadline(at):
            if len(images) == 1:
                one = await unless_client_leaves(request.receive, classifier.classify(images[0], top_k))
                return _answer_one(classifier, one, timings)
            place.hand_over()
    many = await unless_client_leaves(request.receive, _classify_each(replica, classifier, images, top_k, at))
    return _answer_many(classifier, many, timings)


async def _classify_each(
    replica: Replica, classifier: Classifier, images: list[bytes], k: int, at: float
) -> list[Classification | ServiceError]:
    async def admitted(image: bytes) -> Classification | ServiceError:
        try:
            with replica.admit(classifier):
                async with deadline(at):
                    return await classifier.classify(image, k)
        except ServiceError as error:
            return error

    return await asyncio.gather(*map(admitted, images))


def _model(classifier: Classifier) -> ModelReference:
    return ModelReference(name=classifier.manifest.name, version=classifier.manifest.version)


def _answer_one(classifier: Classifier, result: Classification, timings: StageTimings) -> Response:
    timings.include(result.stages)
    body = ClassifyResponse(
        model=_model(classifier),
        predictions=[PredictionBody.model_validate(prediction) for prediction in result.predictions],
        image=ImageBody.model_validate(result.image),
        timing_ms=timings.milliseconds(),
    )
    return Response(body.model_dump_json(), media_type="application/json")


def _answer_many(
    classifier: Classifier, results: list[Classification | ServiceError], timings: StageTimings
) -> Response:
    bodies = []
    for result in results:
        if isinstance(result, ServiceError):
            bodies.append(ImageResult(error=ErrorBody(**result.body())))
        else:
            timings.include(result.stages)
            bodies.append(ImageResult.model_validate(result))
    body = ClassifyManyResponse(model=_model(classifier), results=bodies, timing_ms=timings.milliseconds())
    return Response(body.model_dump_json(exclude_none=True), media_type="application/json")


@router.get("/healthz/live", responses={503: {"model": ErrorResponse}})
async def live(request: Request) -> HealthResponse:
    """Whether the event loop and every scheduler run; if not, restart the process."""
    request.app.state.replica.check_live()
    return HealthResponse(status="live")


@router.get("/healthz/ready", responses={503: {"model": ErrorResponse}})
async def ready(request: Request) -> HealthResponse:
    """Whether to send traffic: inference is proven on golden images and no shutdown has begun."""
    await request.app.state.replica.check_ready()
    return HealthResponse(status="ready")
