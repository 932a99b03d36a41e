"""A request's way in, whichever route it came by: a place inside, then its body, then each image's own outcome."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import Request

from service.api.deadline import deadline
from service.errors import ClientGone, ServiceError
from service.models.classifier import Classification, Classifier
from service.scheduling.admission import Admission, Place
from service.scheduling.ticket import Priority, Ticket
from service.timings import StageTimings

_T = TypeVar("_T")
Work = Callable[[Ticket], Awaitable[Classification]]  # what is to be done for one image that is let in
Result = Classification | ServiceError

_SLOW_UPLOAD = 0.25  # seconds after which nobody else is refused for an image that is not here yet


class Visit:
    """A request inside, with a place for its first image."""

    def __init__(self, request: Request, classifier: Classifier, place: Place) -> None:
        self.ticket = place.ticket  # the first image's; its deadline and priority are every image's
        self.charge = place.charge  # to be told of every piece of the body
        self.results: list[Result] = []
        self._classifier = classifier
        self._admission: Admission = request.app.state.replica.admission
        self._timings: StageTimings = request.state.timings
        self._tickets = [place.ticket]
        self._left = False
        on_leave = request.scope.get("mixer.on_leave")
        if on_leave:
            on_leave(self._leave)

    def _leave(self) -> None:
        """Its client has closed the connection."""
        self._left = True
        for ticket in self._tickets:
            ticket.settle(_gone())

    async def receive(self, reading: Awaitable[_T]) -> _T:
        """Await the body until the deadline; raises DeadlineExceeded."""
        loop, promises = asyncio.get_running_loop(), self._classifier.promises
        slow = loop.call_later(_SLOW_UPLOAD, promises.forget, self.ticket)
        try:
            with self._timings.stage("receive"):
                async with deadline(self.ticket.deadline):
                    body = await reading
        finally:
            slow.cancel()
        self.ticket.receive(loop.time())
        return body

    async def answer_each(self, works: Sequence[Work]) -> list[Result]:
        """One result an image, in order."""
        first, *others = works
        if others:
            self.results = await asyncio.gather(_result(self._do(first, self.ticket)), *map(self._another, others))
        else:
            self.results = [await _result(self._do(first, self.ticket))]
        return self.results

    async def answer_all(self, works: Sequence[Work]) -> list[Classification]:
        """The same, but one image's error is the request's: the first is raised, and the other images are withdrawn."""
        first, *others = works
        if not others:
            self.results = [await self._do(first, self.ticket)]
            return self._answers
        tasks = [asyncio.ensure_future(self._do(first, self.ticket))]
        tasks += [asyncio.ensure_future(self._admitted(work)) for work in others]
        try:
            self.results = list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._answers

    @property
    def _answers(self) -> list[Classification]:
        return [result for result in self.results if isinstance(result, Classification)]

    async def _do(self, work: Work, ticket: Ticket) -> Classification:
        if self._left:
            raise _gone()
        return await work(ticket)

    async def _another(self, work: Work) -> Result:
        return await _result(self._admitted(work))

    async def _admitted(self, work: Work) -> Classification:
        # The promise at the door was for one image; of sixty-four the last may take until the deadline.
        ticket = Ticket(self.ticket.deadline, self.ticket.priority, serve_by=self.ticket.serve_by, received=True)
        ticket.decode_seconds = self._classifier.promises.decode_times.usual
        self._tickets.append(ticket)
        with self._admission.admit(self._classifier, ticket):
            return await self._do(work, ticket)

    def count(self) -> None:
        """Into the model's statistics: answered if every image was."""
        statistics, answers = self._classifier.statistics, self._answers
        if answers and len(answers) == len(self.results):
            statistics.request_answered(self._timings.total, [answer.stages for answer in answers])
        else:
            statistics.request_failed(self._timings.total)


@asynccontextmanager
async def admitted(
    request: Request, classifier: Classifier, deadline_seconds: float | None, priority: Priority
) -> AsyncIterator[Visit]:
    """Let a request's first image in for the length of the block, whose end is its outcome.

    Raises NotReady or Overloaded if it is not let in.
    """
    admission: Admission = request.app.state.replica.admission
    ticket = classifier.promises.ticket(deadline_seconds, priority)
    try:
        place = admission.admit(classifier, ticket)
    except ServiceError:
        classifier.statistics.request_failed(0.0)
        raise
    visit: Visit | None = None
    try:
        with place:
            visit = Visit(request, classifier, place)
            yield visit
            if visit.results and isinstance(visit.results[0], ServiceError):
                raise visit.results[0]  # the place was the first image's, and ends as that did
    except ServiceError as error:
        if not visit or error not in visit.results[:1] or len(visit.results) == 1:
            raise
    finally:
        if visit:
            visit.count()


async def _result(image: Awaitable[Classification]) -> Result:
    try:
        return await image
    except ServiceError as error:
        return error


def _gone() -> ClientGone:
    return ClientGone("the client left before its answer")
