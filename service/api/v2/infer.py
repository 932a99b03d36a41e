"""One request for inference: its body in, its images through the same door as everybody's, its outputs out."""

from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np
from fastapi import Request
from fastapi.responses import Response

from service.api.body import parsed, read_body
from service.api.door import Visit, Work
from service.api.parameters import InferParameters
from service.api.v2.names import widths
from service.api.v2.request import Inference, parse
from service.api.v2.response import answer
from service.arrays import FEATURES, LOGITS, Outputs
from service.errors import MalformedRequest, ServiceError
from service.models.classifier import Classification, Classifier
from service.models.replica import Replica
from service.scheduling.ticket import Ticket
from service.timings import StageTimings


async def infer(request: Request, classifier: Classifier, asked: InferParameters) -> Response:
    """Answer for all images of the request; raises the ServiceError of the first one that has none.

    The deadline and priority that are `asked` hold at the door, and further unless the body has its own.
    """
    with Visit(request.scope, classifier, asked.deadline_seconds, asked.priority) as visit:
        reading = _read(request, classifier, asked, visit)
        inference, given, size = await outputs(request, classifier, visit, reading)
    accepted = request.headers.get("accept-encoding", "")
    respond = partial(answer, inference, classifier.manifest, classifier.labels, given, accepted)
    body, headers = await parsed(respond, size)
    return Response(body, headers=headers)


async def outputs(
    request: Request, classifier: Classifier, visit: Visit, reading: Awaitable[Inference]
) -> tuple[Inference, Outputs, int]:
    """What is asked once it is read, and what the model gave for all of its images; the bytes of the latter.

    Raises the ServiceError of the first image that has no answer.
    """
    replica: Replica = request.app.state.replica
    timings: StageTimings = request.state.timings
    inference = await visit.receive(reading)
    _take_its_own_times(replica, classifier, visit, inference)
    answers = await visit.answer_all(_works(classifier, inference))
    for each in answers:
        timings.include(each.stages)
    rows = np.stack([np.frombuffer(each.answer, np.float32) for each in answers])
    top_k, _ = _asks(inference)
    classes = 0 if top_k is None else classifier.manifest.classes
    return inference, {LOGITS: rows[:, :classes], FEATURES: rows[:, classes:]}, rows.nbytes


async def _read(request: Request, classifier: Classifier, asked: InferParameters, visit: Visit) -> Inference:
    replica: Replica = request.app.state.replica
    body = await read_body(request, replica.settings.max_body_bytes, visit.charge)
    json_length = None if asked.json_length is None else int(asked.json_length)
    understand = partial(parse, body, json_length, classifier.manifest.image_size, widths(classifier.manifest))
    return await parsed(understand, len(body))


def _take_its_own_times(replica: Replica, classifier: Classifier, visit: Visit, inference: Inference) -> None:
    """The body's priority and timeout, in place of those at the door."""
    ticket, allow = visit.ticket, classifier.promises.allow
    if inference.priority:
        ticket.priority = inference.priority
        if inference.priority == "bulk":  # as of who says so in a header
            allow(ticket, ticket.deadline - ticket.let_in_at, ticket.let_in_at)
    if inference.timeout:
        allow(ticket, inference.timeout, ticket.let_in_at)
        replica.admission.check_time(classifier, ticket)
    replica.admission.check_room(classifier, ticket)
    visit.take_times()


def _asks(inference: Inference) -> tuple[int | None, bool]:
    """Whether for logits, as an Item's `top_k` has it, and whether for features."""
    names = {output.name for output in inference.outputs}
    return 0 if names - {FEATURES} else None, FEATURES in names


def _works(classifier: Classifier, inference: Inference) -> list[Work]:
    top_k, features = _asks(inference)
    if isinstance(inference.images, np.ndarray):
        return [
            partial(classifier.classify_pixels, pixels.tobytes(), top_k, features=features)
            for pixels in inference.images
        ]
    classify = partial(classifier.classify, top_k=top_k, features=features)
    return [partial(_of_image, classify, number, data) for number, data in enumerate(inference.images)]


async def _of_image(
    classify: Callable[..., Awaitable[Classification]], number: int, data: bytes, ticket: Ticket
) -> Classification:
    """Raises what `Classifier.classify` does, and says of which image."""
    try:
        return await classify(data, ticket=ticket)
    except ServiceError as error:
        if error.outcome == MalformedRequest.outcome:
            error.message = f"image {number}: {error.message}"
        raise
