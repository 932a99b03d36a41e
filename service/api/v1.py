"""The service's own routes: classify, the probes, and what the last batches were."""

import json
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Scope

from service.api.api_keys import ApiKeys
from service.api.body import read_images
from service.api.door import Result, Visit
from service.api.mistaken import refuse_mistakes
from service.api.negotiation import check_accept
from service.api.openapi import CLASSIFY_ANSWERS, CLASSIFY_REQUEST, HEALTH_ANSWERS
from service.api.outputs import check_predicts
from service.api.parameters import ClassifyParameters
from service.api.schemas import ClassifyManyResponse, ClassifyResponse, HealthResponse
from service.errors import ServiceError, UnknownRoute
from service.models.classifier import Classification, Classifier
from service.models.registry import LoadedModels
from service.models.replica import Replica
from service.scheduling.ticket import Ticket
from service.timings import StageTimings

router = APIRouter()

_JSON = (b"content-type", b"application/json")


@router.post(
    "/v1/classify",
    tags=["Classification"],
    response_model=ClassifyResponse | ClassifyManyResponse,
    responses=CLASSIFY_ANSWERS,
    openapi_extra=CLASSIFY_REQUEST,
)
async def classify(request: Request) -> Response:
    """Classify the image in the body, or each image of a multipart form."""
    replica: Replica = request.app.state.replica
    classifier, asked = asked_of(request.scope, replica.models, request.app.state.api_keys)
    with Visit(request.scope, classifier, asked.deadline_seconds, asked.priority) as visit:
        images = await visit.receive(read_images(request, replica.settings.max_body_bytes, visit.charge))
        results = await visit.answer_each([partial(_classify, classifier, image, asked.top_k) for image in images])
    if len(results) == 1:
        (result,) = results
        if isinstance(result, ServiceError):
            raise result
        return answer_one(request.scope, classifier, result)
    answers = [result for result in results if isinstance(result, Classification)]
    many = b'"results":[%b]' % b",".join(map(_result, results))
    return _answer(request.scope, classifier, many, answers)


def asked_of(scope: Scope, models: LoadedModels, api_keys: ApiKeys) -> tuple[Classifier, ClassifyParameters]:
    """What a request's head asks for, and of which model; raises the ServiceError or the parameters' of a wrong one."""
    api_keys.check(scope)
    asked = ClassifyParameters.of(scope)
    check_accept(scope)
    classifier = models.find(asked.model, asked.version)
    check_predicts(classifier.manifest)
    return classifier, asked


def answer_one(scope: Scope, classifier: Classifier, result: Classification) -> Response:
    """`ClassifyResponse` for the only image of a request."""
    return _answer(scope, classifier, _fields(result), [result])


async def _classify(classifier: Classifier, image: bytes, top_k: int, ticket: Ticket) -> Classification:
    """As `Classifier.classify`; raises UnsupportedImage too, where what was sent is known to be something else."""
    refuse_mistakes(image)
    return await classifier.classify(image, top_k, ticket)


def _answer(scope: Scope, classifier: Classifier, fields: bytes, answers: list[Classification]) -> Response:
    """`ClassifyResponse` or `ClassifyManyResponse`, put together from what is JSON already."""
    timings: StageTimings = scope["state"]["timings"]
    for answer in answers:
        timings.include(answer.stages)
    body = b'{"model":%b,%b,"timing_ms":%b}' % (classifier.reference_json, fields, timings.json().encode())
    response = Response()
    response.body, response.raw_headers = body, [(b"content-length", b"%d" % len(body)), _JSON]
    return response


def _result(result: Result) -> bytes:
    if isinstance(result, ServiceError):
        return b'{"error":%b}' % json.dumps(result.body(), separators=(",", ":")).encode()
    return b"{%b}" % _fields(result)


def _fields(answer: Classification) -> bytes:
    return b'"predictions":%b,"image":%b' % (answer.answer, answer.image)


@router.get("/healthz/live", tags=["Health"], responses=HEALTH_ANSWERS)
async def live(request: Request) -> HealthResponse:
    """Whether the event loop runs and no model has lost its lanes for good; if not, restart the process."""
    request.app.state.replica.check_live()
    return HealthResponse(status="live")


@router.get("/healthz/ready", tags=["Health"], responses=HEALTH_ANSWERS)
async def ready(request: Request) -> HealthResponse:
    """Whether to send traffic: every model has a lane that is proven on golden images, and no shutdown has begun."""
    request.app.state.replica.check_ready()
    return HealthResponse(status="ready")


@router.get("/debug/passes", include_in_schema=False)
async def passes(request: Request) -> list[dict[str, object]]:
    """The last 256 batches, newest first; there only where MIXER_DEBUG asks for it."""
    replica: Replica = request.app.state.replica
    if not replica.settings.debug:
        raise UnknownRoute("Not Found")
    request.app.state.api_keys.check(request.scope)
    return replica.pass_log.newest_first()
