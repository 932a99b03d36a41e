"""A request's way in, whichever route it came by: a place inside, then its body, then each image's own outcome."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TypeVar

from starlette.types import Scope

from service.api.deadline import deadline
from service.errors import ClientGone, ServiceError
from service.lanes.wire import Buffer
from service.models.classifier import Classification, Classifier
from service.scheduling.ticket import Priority, Ticket
from service.timings import StageTimings

_T = TypeVar("_T")
Work = Callable[[Ticket], Awaitable[Classification]]  # what is to be done for one image that is let in
Result = Classification | ServiceError

_SLOW_UPLOAD = 0.05  # seconds after which nobody else is refused for an image that is not here, or not parsed, yet


class Visit:
    """A request inside, with a place for its first image, from `begin` to `end` or for the length of a `with` block.

    The end is the first image's outcome. Raises NotReady or Overloaded if it is not let in.
    """

    def __init__(
        self,
        scope: Scope,
        classifier: Classifier,
        seconds: float | None,
        priority: Priority,
        image: Buffer | None = None,
    ) -> None:
        """`seconds` and `priority` are what the client asks for; `image` is its only image, if it is here."""
        self._classifier = classifier
        self._admission = classifier.admission
        self._scope = scope
        self._told = scope["state"]  # of which the log line is made
        self._told["model"] = classifier.reference
        self._timings: StageTimings = self._told["timings"]
        self._outcomes: Sequence[Classification | BaseException] = []  # one an image, once they are known
        self._left = False
        upload = scope.get("mixer.upload")
        size = upload.announced if upload else math.inf
        self.ticket = _held(scope, classifier) or classifier.promises.ticket(  # the first image's
            seconds, priority, scope.get("mixer.since"), image=image, size=size
        )
        self._tickets = [self.ticket]
        try:
            self._place = self._admission.admit(classifier, self.ticket)
        except ServiceError:
            classifier.statistics.request_failed(0.0)
            raise
        self.charge = self._place.charge  # to be told of every piece of the body
        self.take_times()
        if on_leave := scope.get("mixer.on_leave"):
            on_leave(self._leave)

    def take_times(self) -> None:
        """Tell the connection how long its client waits, at first and where the ticket's deadline is another now."""
        self._scope["mixer.deadline"] = self.ticket.deadline

    def _leave(self) -> None:
        """Its client has closed the connection."""
        self._left = True
        for ticket in self._tickets:
            ticket.settle(_gone())

    async def receive(self, reading: Awaitable[_T]) -> _T:
        """Await the body until the deadline; raises DeadlineExceeded, which says that it was the upload."""
        ticket, promises = self.ticket, self._classifier.promises
        upload = self._scope.get("mixer.upload")
        started = time.perf_counter()
        here = upload and upload.received >= upload.announced  # as most are, when their turn comes
        slow = promises.call_later(_SLOW_UPLOAD, promises.forget, ticket)
        try:
            if here:
                body = await reading
            else:
                async with deadline(ticket.deadline, upload):
                    body = await reading
        finally:
            slow.cancel()
            stages = self._timings.stages  # with what came before, and with what it takes to inflate or parse it
            stages["receive"] = stages.get("receive", 0.0) + time.perf_counter() - started
        ticket.receive(0.0 if here else promises.now() - ticket.let_in_at)
        return body

    def take(self, image: bytes) -> None:
        """The same for a body that is here, and is the only image; raises what `charge` does."""
        self.charge(len(image))
        self._timings.stages["receive"] = 0.0
        self.ticket.receive(0.0)
        self._told["images"] = 1

    async def answer_each(self, works: Sequence[Work]) -> list[Result]:
        """One result an image, in order."""
        self._told["images"] = len(works)
        first, *others = works
        if others:
            images = [self._do(first, self.ticket), *map(self._admitted, others)]
            results = await asyncio.gather(*map(_result, images))
        else:
            results = [await _result(self._do(first, self.ticket))]
        self._outcomes = results
        return results

    async def answer_all(self, works: Sequence[Work]) -> list[Classification]:
        """The same, but one image's error is the request's: the first is raised, and the other images are withdrawn."""
        self._told["images"] = len(works)
        first, *others = works
        if not others:
            answers = [await self._do(first, self.ticket)]
        else:
            images = [self._do(first, self.ticket), *map(self._admitted, others)]
            tasks = [asyncio.ensure_future(image) for image in images]
            try:
                answers = list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
                self._outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        self._outcomes = answers
        return answers

    async def _do(self, work: Work, ticket: Ticket) -> Classification:
        if self._left:
            raise _gone()
        return await work(ticket)

    async def _admitted(self, work: Work) -> Classification:
        # The promise at the door was for one image. The others have until the deadline, and yield to who asks for one.
        promises = self._classifier.promises
        ticket = promises.ticket(self.ticket.deadline - promises.now(), self.ticket.priority)
        ticket.received = True
        self._tickets.append(ticket)
        with self._admission.admit(self._classifier, ticket):
            return await self._do(work, ticket)

    def begin(self) -> "Visit":
        """It is inside."""
        self._place.__enter__()
        return self

    def answered(self, answer: Classification) -> None:
        """It is inside no more: its only image has its answer."""
        self._outcomes = [answer]
        self.end(None)

    def end(self, error: BaseException | None) -> None:
        """It is inside no more; `error` is what it failed with."""
        own = self._outcomes[0] if self._outcomes else error  # the place was the first image's, and ends as that did
        failed = own if isinstance(own, BaseException) else None
        self._place.__exit__(type(failed) if failed else None, failed, None)
        statistics = self._classifier.statistics
        answers = [outcome for outcome in self._outcomes if isinstance(outcome, Classification)]
        if error is None and len(answers) == len(self._outcomes):
            statistics.request_answered(self._timings.total, [answer.stages for answer in answers])
        else:
            statistics.request_failed(self._timings.total)

    def __enter__(self) -> "Visit":
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(error)


def _held(scope: Scope, classifier: Classifier) -> Ticket | None:
    """What `HotRoutes.refusal` held a place for, unless the model is another one by now."""
    held_of, ticket = scope.pop("mixer.held", (None, None))
    return ticket if held_of is classifier else None


async def _result(image: Awaitable[Classification]) -> Result:
    try:
        return await image
    except ServiceError as error:
        return error.with_traceback(None)  # whose frames hold the image: see `known_error`


def _gone() -> ClientGone:
    return ClientGone("the client left before its answer")
