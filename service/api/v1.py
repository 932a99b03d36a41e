"""The HTTP routes: what to read, whom to ask, how to answer."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api.body import read_images
from service.api.negotiation import check_accept
from service.api.openapi import CLASSIFY_ANSWERS, CLASSIFY_REQUEST, HEALTH_ANSWERS
from service.api.parameters import ClassifyParameters
from service.api.reception import Result, Work, serve_images
from service.api.schemas import (
    ClassifyManyResponse,
    ClassifyResponse,
    ErrorBody,
    HealthResponse,
    ImageBody,
    ImageResult,
    ModelReference,
    PredictionBody,
)
from service.errors import ServiceError, UnknownRoute
from service.models.classifier import Classification, Classifier
from service.models.replica import Replica
from service.scheduling.ticket import Ticket
from service.timings import StageTimings

router = APIRouter()


@router.post(
    "/v1/classify",
    response_model=ClassifyResponse | ClassifyManyResponse,
    responses=CLASSIFY_ANSWERS,
    openapi_extra=CLASSIFY_REQUEST,
)
async def classify(request: Request) -> Response:
    """Classify the image in the body, or each image of a multipart form."""
    replica: Replica = request.app.state.replica
    timings: StageTimings = request.state.timings
    replica.api_keys.check(request.headers)
    asked = ClassifyParameters.of(request)
    check_accept(",".join(request.headers.getlist("accept")))
    classifier = replica.find(asked.model, asked.version)

    async def read(_: Ticket) -> list[Work]:
        images = await read_images(request, replica.settings.max_body_bytes)
        return [partial(classifier.classify, image, asked.top_k) for image in images]

    results = await serve_images(request, classifier, read, asked.deadline_seconds, asked.priority)
    if len(results) > 1:
        return _answer_many(classifier, results, timings)
    if isinstance(results[0], ServiceError):
        raise results[0]
    return _answer_one(classifier, results[0], timings)


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


def _answer_many(classifier: Classifier, results: list[Result], timings: StageTimings) -> Response:
    bodies = []
    for result in results:
        if isinstance(result, ServiceError):
            bodies.append(ImageResult(error=ErrorBody(**result.body())))
        else:
            timings.include(result.stages)
            bodies.append(ImageResult.model_validate(result))
    body = ClassifyManyResponse(model=_model(classifier), results=bodies, timing_ms=timings.milliseconds())
    return Response(body.model_dump_json(exclude_none=True), media_type="application/json")


@router.get("/healthz/live", responses=HEALTH_ANSWERS)
async def live(request: Request) -> HealthResponse:
    """Whether the event loop and every scheduler run; if not, restart the process."""
    request.app.state.replica.check_live()
    return HealthResponse(status="live")


@router.get("/healthz/ready", responses=HEALTH_ANSWERS)
async def ready(request: Request) -> HealthResponse:
    """Whether to send traffic: inference is proven on golden images and no shutdown has begun."""
    await request.app.state.replica.check_ready()
    return HealthResponse(status="ready")


@router.get("/debug/passes", include_in_schema=False)
async def passes(request: Request) -> list[dict[str, object]]:
    """The last 256 passes, newest first; there only where MIXER_DEBUG asks for it."""
    replica: Replica = request.app.state.replica
    if not replica.settings.debug:
        raise UnknownRoute("Not Found")
    replica.api_keys.check(request.headers)
    return replica.pass_log.newest_first()
