"""Admission: an image is let in only if it, and all that were let in before, will be answered in time."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import DeadlineExceeded, NotReady, Overloaded, ServiceError
from service.metrics import Metrics
from service.scheduling.forecast import Prediction
from service.scheduling.scheduler import Scheduler
from service.scheduling.ticket import Ticket

# Of who was let in: "rejected" are those at the door, which no time left and a stopped engine cannot make of them.
_OUTCOME_INSIDE = {"invalid": "invalid", "cancelled": "cancelled", "expired": "expired", "rejected": "expired"}


class Admission:
    """Bounds images and bytes inside, keeps promises as the prediction says, and counts how each image ended."""

    def __init__(
        self,
        max_images: int,
        max_bytes: int,
        prediction: Prediction,
        metrics: Metrics,
    ) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        self._prediction = prediction
        self._metrics = metrics
        self._inside: Counter[Scheduler] = Counter()  # images, until they are answered
        self._emptied: dict[Scheduler, asyncio.Event] = {}
        self._bytes = 0
        self.inflight = 0

    async def wait_until_left(self, scheduler: Scheduler) -> None:
        """Wait until the last image of a model that nobody is sent to any more is answered."""
        while self._inside[scheduler]:
            self._emptied[scheduler] = asyncio.Event()
            await self._emptied[scheduler].wait()
        self._emptied.pop(scheduler, None)
        del self._inside[scheduler]

    @contextmanager
    def admit(self, scheduler: Scheduler, ticket: Ticket, body_bytes: int = 0) -> Iterator[Ticket]:
        """Let an image in for the length of the block, whose end is its outcome.

        Raises Overloaded, with a reason and the time to retry, if there is no room for it or no time: its own
        deadline would be missed, or it would make another's be missed.
        """
        try:
            self.check(scheduler, ticket, body_bytes)
        except (NotReady, Overloaded) as error:
            self._metrics.count_rejection(scheduler.model, error.reason)
            raise
        self._metrics.admitted_images.labels(scheduler.model).inc()
        scheduler.expect(ticket)
        self._inside[scheduler] += 1
        ticket.let_in_at = scheduler.now()
        outcome = "error"
        self._count(+1, body_bytes)
        try:
            yield ticket
            outcome = "ok"
            self._prediction.learn(ticket, scheduler.now())
        except ServiceError as error:
            outcome = _OUTCOME_INSIDE.get(error.outcome or "error", "error")
            if isinstance(error, DeadlineExceeded) and ticket.received:
                self._prediction.learn_of_a_miss(ticket, scheduler.now())
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            scheduler.ahead.pop(ticket, None)
            self._inside[scheduler] -= 1
            if not self._inside[scheduler] and scheduler in self._emptied:
                self._emptied[scheduler].set()
            self._count(-1, -body_bytes)
            self._metrics.count_image(scheduler.model, outcome)

    def check(self, scheduler: Scheduler, ticket: Ticket, body_bytes: int = 0) -> None:
        """Raise what `admit` would, and change nothing."""
        if not scheduler.beats:
            raise NotReady("the scheduler has stopped or its engine hangs", reason="scheduler_stopped")
        if self._prediction.loop_alone_takes > ticket.deadline - scheduler.now():
            raise Overloaded("too many requests arrive at once", reason="event_loop", retry_after=1)
        self._check_room(scheduler, body_bytes)
        self.check_time(scheduler, ticket)

    def _check_room(self, scheduler: Scheduler, body_bytes: int) -> None:
        over = [
            (reason, f"{held} {unit} are inside, of {limit}")
            for reason, unit, held, more, limit in (
                ("inflight_images", "images", self.inflight, 1, self._max_images),
                ("inflight_bytes", "bytes", self._bytes, body_bytes, self._max_bytes),
            )
            if held + more > limit
        ]
        if over:
            (reason, message), *_ = over
            full = scheduler.pass_times.seconds(scheduler.max_batch_size)
            passes = math.ceil(len(scheduler.ahead) / scheduler.max_batch_size)
            raise Overloaded(message, reason=reason, retry_after=max(1, math.ceil(passes * full)))

    def check_time(self, scheduler: Scheduler, ticket: Ticket) -> None:
        """Raise Overloaded if there is no time for a ticket, at the door or inside with a deadline that is new."""
        if ticket in scheduler.ahead:
            scheduler.expect(ticket)
        alone = self.inflight == (ticket in scheduler.ahead)
        late = self._prediction.seconds_late(scheduler, ticket, alone=alone)
        if late > 0:
            raise Overloaded(
                f"a deadline would be missed by {late * 1000:.0f} ms",
                reason="deadline",
                retry_after=max(1, math.ceil(late)),
            )

    def _count(self, images: int, body_bytes: int) -> None:
        self.inflight += images
        self._bytes += body_bytes
        self._metrics.inflight_images.set(self.inflight)
