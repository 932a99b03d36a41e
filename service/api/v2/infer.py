"""One request for inference: its body in, its images through the same door as everybody's, its outputs out."""

import asyncio
from functools import partial

import numpy as np
from fastapi import Request
from fastapi.responses import Response

from service.api.body import LARGE, read_body
from service.api.parameters import InferParameters
from service.api.reception import Work, serve_images
from service.api.v2.request import Inference, parse
from service.api.v2.response import answer
from service.errors import MalformedRequest, ServiceError
from service.models.classifier import Classification, Classifier
from service.models.replica import Replica
from service.scheduling.ticket import Ticket
from service.timings import StageTimings


async def infer(request: Request, classifier: Classifier, asked: InferParameters) -> Response:
    """Answer for all images of the request; raises the ServiceError of the first one that has none.

    The deadline and priority that are `asked` hold at the door, and further unless the body has its own.
    """
    replica: Replica = request.app.state.replica
    timings: StageTimings = request.state.timings
    json_length = None if asked.json_length is None else int(asked.json_length)
    inference: Inference | None = None

    async def read(ticket: Ticket) -> list[Work]:
        nonlocal inference
        body = await read_body(request, replica.settings.max_body_bytes)
        understand = partial(parse, body, json_length, classifier.manifest.image_size)
        inference = await asyncio.to_thread(understand) if len(body) > LARGE else understand()
        if inference.priority:
            ticket.priority = inference.priority
            if inference.priority == "bulk":  # as of who says so in a header
                ticket.allow(ticket.deadline - ticket.let_in_at, ticket.let_in_at)
        if inference.timeout:
            ticket.allow(inference.timeout, ticket.let_in_at)
            replica.admission.check_time(classifier.scheduler, ticket)
        return _works(classifier, inference)

    results = await serve_images(request, classifier, read, asked.deadline_seconds, asked.priority, all_or_none=True)
    answers = [result for result in results if isinstance(result, Classification)]
    for each in answers:
        timings.include(each.stages)
    assert inference is not None
    logits = np.stack([each.logits for each in answers])
    accepted = request.headers.get("accept-encoding", "")
    respond = partial(answer, inference, classifier.manifest, classifier.labels, logits, accepted)
    body, headers = await asyncio.to_thread(respond) if logits.nbytes > LARGE else respond()
    return Response(body, headers=headers)


def _works(classifier: Classifier, inference: Inference) -> list[Work]:
    if isinstance(inference.images, np.ndarray):
        return [partial(classifier.classify_pixels, pixels, 0) for pixels in inference.images]
    return [partial(_classify_file, classifier, number, data) for number, data in enumerate(inference.images)]


async def _classify_file(classifier: Classifier, number: int, data: bytes, ticket: Ticket) -> Classification:
    """Raises what `Classifier.classify` does, and says of which image."""
    try:
        return await classifier.classify(data, 0, ticket)
    except ServiceError as error:
        if error.outcome == MalformedRequest.outcome:
            error.message = f"image {number}: {error.message}"
        raise
