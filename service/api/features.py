"""The route of features: what a model has made of an image before its head says what it is."""

import json
from functools import partial

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api.body import parsed, read_images
from service.api.door import Result, Visit
from service.api.mistaken import refuse_mistakes
from service.api.negotiation import check_accept
from service.api.openapi import FEATURES_ANSWERS, FEATURES_REQUEST
from service.api.outputs import check_features
from service.api.parameters import FeaturesParameters
from service.api.schemas import FeaturesManyResponse, FeaturesResponse
from service.errors import ServiceError
from service.models.classifier import Classification, Classifier
from service.models.replica import Replica
from service.scheduling.ticket import Ticket
from service.timings import StageTimings

router = APIRouter()

_NUMBER = "%.9g"  # as many digits as bring back a float32 bit by bit


@router.post(
    "/v1/features",
    tags=["Classification"],
    response_model=FeaturesResponse | FeaturesManyResponse,
    responses=FEATURES_ANSWERS,
    openapi_extra=FEATURES_REQUEST,
)
async def features(request: Request) -> Response:
    """Features of the image in the body, or of each image of a multipart form or of JSON."""
    replica: Replica = request.app.state.replica
    request.app.state.api_keys.check(request.scope)
    asked = FeaturesParameters.of(request.scope)
    check_accept(request.scope)
    classifier = replica.models.find(asked.model, asked.version)
    check_features(classifier.manifest)
    with Visit(request.scope, classifier, asked.deadline_seconds, asked.priority) as visit:
        images = await visit.receive(read_images(request, replica.settings.max_body_bytes, visit.charge))
        results = await visit.answer_each([partial(_features, classifier, image) for image in images])
    if isinstance(results[0], ServiceError) and len(results) == 1:
        raise results[0]
    timings: StageTimings = request.state.timings
    for result in results:
        if isinstance(result, Classification):
            timings.include(result.stages)
    size = sum(len(result.answer) for result in results if isinstance(result, Classification))
    fields = await parsed(partial(_fields_of, results), size)
    body = b'{"model":%b,%b,"timing_ms":%b}' % (classifier.reference_json, fields, timings.json().encode())
    return Response(body, media_type="application/json")


async def _features(classifier: Classifier, image: bytes, ticket: Ticket) -> Classification:
    """As `Classifier.classify`; raises UnsupportedImage too, where what was sent is known to be something else."""
    refuse_mistakes(image)
    return await classifier.classify(image, None, ticket, features=True)


def _fields_of(results: list[Result]) -> bytes:
    """What of `FeaturesResponse` or `FeaturesManyResponse` the images are in."""
    fields = [_fields(result) for result in results]
    return fields[0] if len(fields) == 1 else b'"results":[%b]' % b",".join(b"{%b}" % each for each in fields)


def _fields(result: Result) -> bytes:
    if isinstance(result, ServiceError):
        return b'"error":%b' % json.dumps(result.body(), separators=(",", ":")).encode()
    values = tuple(np.frombuffer(result.answer, np.float32).tolist())
    numbers = ",".join([_NUMBER] * len(values)) % values
    return b'"features":[%b],"image":%b' % (numbers.encode(), result.image)
