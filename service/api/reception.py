"""A request's images, whichever door they came by: a place inside, then the body, then each image's own outcome."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from fastapi import Request

from service.errors import ServiceError
from service.models.classifier import Classification, Classifier
from service.models.replica import Replica
from service.scheduling.deadline import deadline, unless_client_leaves
from service.scheduling.ticket import Priority, Ticket
from service.timings import StageTimings

Work = Callable[[Ticket], Awaitable[Classification]]  # what is to be done for one image that is let in
Image = Coroutine[None, None, Classification]  # that work, begun
Result = Classification | ServiceError

_SLOW_UPLOAD = 0.25  # seconds after which nobody else is refused for an image that is not here yet


async def serve_images(
    request: Request,
    classifier: Classifier,
    read: Callable[[Ticket], Awaitable[list[Work]]],
    deadline_seconds: float | None = None,
    priority: Priority = "interactive",
    *,
    all_or_none: bool = False,
) -> list[Result]:
    """One result an image, in order; `read` takes the body in, once a place inside is sure, and says what to do.

    `read` is given the first image's ticket and may change its deadline and priority, which all images share, to what
    the body asks for. If `all_or_none`, one image's error is the request's, and ends the others.

    Raises a ServiceError where the request as a whole fails: not let in, unreadable, too late, its client gone.
    """
    replica: Replica = request.app.state.replica
    timings: StageTimings = request.state.timings
    first = classifier.ticket(deadline_seconds, priority)
    upload_ends = min(first.deadline, classifier.ticket().deadline)
    statistics = classifier.scheduler.statistics
    results: list[Result] = []
    try:
        with replica.admission.admit(classifier.scheduler, first, _announced_bytes(request)):
            # A stalled upload holds its place, and up a shutdown, no longer than the default, whatever its client asks.
            slow = asyncio.get_running_loop().call_later(_SLOW_UPLOAD, classifier.scheduler.overlook, first)
            try:
                with timings.stage("receive"):
                    async with deadline(upload_ends):
                        works = await read(first)
            finally:
                slow.cancel()
            first.receive(classifier.scheduler.now())
            if first not in classifier.scheduler.ahead:
                classifier.scheduler.expect(first)
            results = await unless_client_leaves(
                request.receive, _do_each(replica, classifier, works, first, all_or_none)
            )
            if isinstance(results[0], ServiceError):
                raise results[0]  # the ticket from the door was the first image's, and ends as that did
    except ServiceError:
        if not results:
            statistics.request_failed(timings.total)
            raise
    answers = [result for result in results if isinstance(result, Classification)]
    if len(answers) == len(results):
        statistics.request_answered(timings.total, [answer.stages for answer in answers])
    else:
        statistics.request_failed(timings.total)
    return results


async def _do_each(
    replica: Replica, classifier: Classifier, works: list[Work], first: Ticket, all_or_none: bool
) -> list[Result]:
    """The first image is let in already; every other one is on its own."""

    async def inside(work: Work, ticket: Ticket) -> Classification:
        async with deadline(ticket.deadline):
            return await work(ticket)

    async def another(work: Work) -> Classification:
        # The promise at the door was for one image; of sixty-four the last may take until the deadline.
        ticket = Ticket(first.deadline, first.priority, wanted_by=first.wanted_by, received=True)
        with replica.admission.admit(classifier.scheduler, ticket):
            return await inside(work, ticket)

    images = [inside(works[0], first), *map(another, works[1:])]
    if all_or_none:
        return await _all(images)
    if len(images) == 1:
        return [await _result(images[0])]
    return await asyncio.gather(*map(_result, images))


async def _result(image: Image) -> Result:
    try:
        return await image
    except ServiceError as error:
        return error


async def _all(images: list[Image]) -> list[Result]:
    """Raises the first error, and withdraws the other images."""
    if len(images) == 1:
        return [await images[0]]
    tasks = [asyncio.create_task(image) for image in images]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _announced_bytes(request: Request) -> int:
    """What the body may need: its announced length, or all that is allowed where that says little."""
    limit: int = request.app.state.replica.settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    known = announced.isdecimal() and "content-encoding" not in request.headers
    return min(int(announced), limit) if known else limit
