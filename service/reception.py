"""A request's images, whichever door they came by: a place inside, then the body, then each image's own outcome."""

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import Request

from service.classifier import Classification, Classifier
from service.deadline import deadline, unless_client_leaves
from service.errors import ServiceError
from service.replica import Replica
from service.ticket import Priority, Ticket
from service.timings import StageTimings

Work = Callable[[Ticket], Awaitable[Classification]]  # what is to be done for one image that is let in
Result = Classification | ServiceError


async def serve_images(
    request: Request,
    classifier: Classifier,
    read: Callable[[], Awaitable[list[Work]]],
    deadline_seconds: float | None = None,
    priority: Priority = "interactive",
) -> list[Result]:
    """One result an image, in order; `read` takes the body in, once a place inside is sure, and says what to do.

    Raises a ServiceError where the request as a whole fails: not let in, unreadable, too late, its client gone.
    """
    replica: Replica = request.app.state.replica
    timings: StageTimings = request.state.timings
    first = classifier.ticket(deadline_seconds, priority)
    upload_ends = min(first.deadline, classifier.ticket().deadline)
    results: list[Result] = []
    try:
        with replica.admission.admit(classifier.scheduler, first, _announced_bytes(request)):
            # A stalled upload holds its place, and up a shutdown, no longer than the default, whatever its client asks.
            with timings.stage("receive"):
                async with deadline(upload_ends):
                    works = await read()
            first.receive(classifier.scheduler.now())
            results = await unless_client_leaves(request.receive, _do_each(replica, classifier, works, first))
            if isinstance(results[0], ServiceError):
                raise results[0]  # the ticket from the door was the first image's, and ends as that did
    except ServiceError:
        if not results:
            raise
    return results


async def _do_each(replica: Replica, classifier: Classifier, works: list[Work], first: Ticket) -> list[Result]:
    """The first image is let in already; every other one is on its own."""

    async def inside(work: Work, ticket: Ticket) -> Result:
        try:
            async with deadline(ticket.deadline):
                return await work(ticket)
        except ServiceError as error:
            return error

    async def another(work: Work) -> Result:
        ticket = Ticket(first.deadline, first.priority, first.due, received=True)
        try:
            with replica.admission.admit(classifier.scheduler, ticket):
                async with deadline(ticket.deadline):
                    return await work(ticket)
        except ServiceError as error:
            return error

    if len(works) == 1:
        return [await inside(works[0], first)]
    return await asyncio.gather(inside(works[0], first), *map(another, works[1:]))


def _announced_bytes(request: Request) -> int:
    """What the body may need: its announced length, or all that is allowed where that says little."""
    limit: int = request.app.state.replica.settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    known = announced.isdecimal() and "content-encoding" not in request.headers
    return min(int(announced), limit) if known else limit
