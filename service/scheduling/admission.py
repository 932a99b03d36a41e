"""Admission: an image is let in only if it, and all that were let in before, will be answered in time."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from service.errors import DeadlineExceeded, NotReady, Overloaded, ServiceError
from service.metrics import ModelMetrics
from service.scheduling.promises import Promises
from service.scheduling.ticket import Ticket

_LATELY = 1.0  # seconds
_KEPT = 8  # one place in so many is kept from the patient: their images are inside for long
# Of who was let in: what is "rejected" there has waited in vain, and only at the door is an image rejected.
_OUTCOME_INSIDE = {"invalid": "invalid", "cancelled": "cancelled", "expired": "expired", "rejected": "expired"}


class Model(Protocol):
    """What admission needs of a model."""

    promises: Promises
    metrics: ModelMetrics

    @property
    def serves(self) -> bool:
        """Whether a lane serves, or one in its place is on its way."""


class Admission:
    """Bounds images and bytes inside, keeps promises as the forecast says, and counts how each image ended."""

    def __init__(self, max_images: int, max_bytes: int, make_room: Callable[[], bool] = lambda: False) -> None:
        """`make_room` ends an upload that stalls, if there is one: its place is free in a moment."""
        self._make_room = make_room
        self._max_images = max_images
        self._max_bytes = max_bytes
        self._inside: Counter[Model] = Counter()  # images, until they are answered
        self._inflight = 0  # of all models together
        self._emptied: dict[Model, asyncio.Event] = {}
        self._bytes = 0
        self._coming: set[Ticket] = set()  # of images that have a place kept, and are not inside yet
        self.refused_at = -math.inf  # of `time.monotonic`: when an image was last refused

    @property
    def inflight(self) -> int:
        """Images inside."""
        return self._inflight

    @property
    def full(self) -> bool:
        """Whether somebody was refused lately."""
        return time.monotonic() < self.refused_at + _LATELY

    async def wait_until_left(self, model: Model) -> None:
        """Wait until the last image of a model that nobody is sent to any more is answered."""
        while self._inside[model]:
            self._emptied[model] = asyncio.Event()
            await self._emptied[model].wait()
        self._emptied.pop(model, None)
        del self._inside[model]

    def admit(self, model: Model, ticket: Ticket) -> "Place":
        """Let an image in for the length of a `with` block, whose end is its outcome.

        Raises NotReady if the model has no lane, or Overloaded, with a reason and the time to retry, if there is no
        room or no time: its own deadline would be missed, or it would make another's be missed.
        """
        if ticket in self._coming:
            self._coming.discard(ticket)
        elif error := self.refusal(model, ticket):
            model.metrics.count_rejection(error.reason)
            raise error
        return Place(self, model, ticket)

    def refusal(self, model: Model, ticket: Ticket) -> NotReady | Overloaded | None:
        """What `admit` would raise; it is noted that somebody was refused.

        It is returned and not raised: an error that was raised knows its frames and they know it, so that under a flood
        the collector of such circles would hold the event loop for a tenth of the time.
        """
        error = self._at_the_door(model, ticket)
        if error:
            self.refused_at = time.monotonic()
        return error

    def _at_the_door(self, model: Model, ticket: Ticket) -> NotReady | Overloaded | None:
        if not model.serves:
            return NotReady("no lane serves this model", reason="no_lane")
        if model.promises.loop_lag() > ticket.deadline - model.promises.now():
            return Overloaded("too many requests arrive at once", reason="event_loop", retry_after=1)
        inside = self.inflight + len(self._coming)
        room = self._room(ticket)
        if inside >= room and (inside < self._max_images or not self._make_room()):
            return self._full(model, "inflight_images", f"{inside} images are inside, of {room}")
        return self._too_late(model, ticket)

    def hold(self, model: Model, ticket: Ticket) -> None:
        """Keep a place for an image that was not refused, until its request's task, which comes next, has begun.

        So of several requests that are read at once no more are served than there is room for, and the task need not
        ask again.
        """
        self._coming.add(ticket)
        model.promises.expect(ticket)
        soon = asyncio.get_running_loop().call_soon
        soon(soon, self._hold_no_more, model, ticket)  # the second time comes after the task's

    def _hold_no_more(self, model: Model, ticket: Ticket) -> None:
        if ticket in self._coming:
            self._coming.discard(ticket)
            model.promises.forget(ticket)

    def _room(self, ticket: Ticket) -> int:
        return self._max_images - (self._max_images // _KEPT if ticket.patient else 0)

    def check_room(self, model: Model, ticket: Ticket) -> None:
        """Raise Overloaded if a ticket that was let in has a place that is not for it, now that more is known of it."""
        room = self._room(ticket)
        if self.inflight > room:
            model.metrics.count_reason("inflight_images")
            raise self._full(model, "inflight_images", f"{self.inflight} images are inside, of {room}")

    def check_time(self, model: Model, ticket: Ticket) -> None:
        """Raise Overloaded if there is no time for a ticket that was let in, now that more is known of it."""
        if error := self._too_late(model, ticket):
            model.metrics.count_reason("deadline")
            raise error

    def _too_late(self, model: Model, ticket: Ticket) -> Overloaded | None:
        promises = model.promises
        if ticket in promises:
            promises.expect(ticket)
        late = promises.seconds_late(ticket, alone=self.inflight + len(self._coming) == ticket.is_inside)
        if late <= 0:
            return None
        message = f"a deadline would be missed by {late * 1000:.0f} ms"
        return Overloaded(message, reason="deadline", retry_after=max(1, math.ceil(late)))

    def charge(self, model: Model, received: int) -> None:
        """Take in that so many bytes of a body have come; raises Overloaded if they are more than there is room for."""
        if self._bytes + received > self._max_bytes:
            model.metrics.count_reason("inflight_bytes")
            raise self._full(model, "inflight_bytes", f"{self._bytes} bytes are inside, of {self._max_bytes}")
        self._bytes += received

    def _full(self, model: Model, reason: str, message: str) -> Overloaded:
        return Overloaded(message, reason=reason, retry_after=max(1, math.ceil(model.promises.seconds_ahead)))

    def enter(self, model: Model) -> None:
        """One more image is inside."""
        self._inside[model] += 1
        self._inflight += 1

    def leave(self, model: Model, charged: int) -> None:
        """One image, and what its body was charged, is inside no more."""
        self._inside[model] -= 1
        self._inflight -= 1
        self._bytes -= charged
        if not self._inside[model] and model in self._emptied:
            self._emptied[model].set()


class Place:
    """An image's place inside. Its block's end is the image's outcome."""

    def __init__(self, admission: Admission, model: Model, ticket: Ticket) -> None:
        self.ticket = ticket
        self._admission = admission
        self._model = model
        self._charged = 0

    def charge(self, received: int) -> None:
        """See `Admission.charge`."""
        self._admission.charge(self._model, received)
        self._charged += received

    def __enter__(self) -> "Place":
        self._model.metrics.count_admitted()
        self.ticket.let_in_at = self._model.promises.now()
        self._model.promises.expect(self.ticket)
        self._admission.enter(self._model)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            outcome = "ok"
        elif isinstance(error, ServiceError):
            outcome = _OUTCOME_INSIDE.get(error.outcome or "error", "error")
            if isinstance(error, DeadlineExceeded) and self.ticket.received:
                # Of a promise that was broken all of the time went unseen.
                self._model.promises.learn(self._model.promises.now() - self.ticket.let_in_at)
        else:
            outcome = "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
        self._model.promises.forget(self.ticket)
        self._admission.leave(self._model, self._charged)
        self._model.metrics.count_image(outcome)
