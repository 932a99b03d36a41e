"""Admission: an image is let in only if it, and all that were let in before, will be answered in time."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice

from service.decode_pool import DecodePool
from service.errors import DeadlineExceeded, NotReady, Overloaded, ServiceError
from service.loop_lag import LoopLag
from service.metrics import Metrics
from service.order import completion_times
from service.scheduler import Scheduler
from service.ticket import Ticket

_WEIGHT = 0.1  # of the newest answer in the running mean
_OUTLIER, _SMALL = 4.0, 0.005  # times the mean, and seconds: what a later answer counts as


class Admission:
    """Bounds images and bytes inside, predicts completion, and counts how each image ended."""

    def __init__(
        self,
        max_images: int,
        max_bytes: int,
        decode_pool: DecodePool,
        metrics: Metrics,
        loop_lag: LoopLag,
    ) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        self._decode_pool = decode_pool
        self._metrics = metrics
        self._inside: Counter[Scheduler] = Counter()  # images, until they are answered
        self._emptied: dict[Scheduler, asyncio.Event] = {}
        self._bytes = 0
        self.inflight = 0
        self._loop_lag = loop_lag
        self._lost = 0.0  # seconds that answers lately lost where no prediction looks

    async def wait_until_left(self, scheduler: Scheduler) -> None:
        """Wait until the last image of a model that nobody is sent to any more is answered."""
        while self._inside[scheduler]:
            self._emptied[scheduler] = asyncio.Event()
            await self._emptied[scheduler].wait()
        self._emptied.pop(scheduler, None)
        del self._inside[scheduler]

    @property
    def margin(self) -> float:
        """Seconds kept in hand before each promise."""
        return max(self._lost, self._loop_lag.on_the_way)

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
            self._learn(scheduler, ticket)
        except ServiceError as error:
            outcome = error.outcome or "error"
            if isinstance(error, DeadlineExceeded) and ticket.received:
                self._take(scheduler.now() - ticket.let_in_at)  # a broken promise: all of its time went unseen
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
        if self._loop_lag.on_the_way > ticket.deadline - scheduler.now():
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
        late = self.seconds_late(scheduler, ticket)
        if late > 0:
            raise Overloaded(
                f"a deadline would be missed by {late * 1000:.0f} ms",
                reason="deadline",
                retry_after=max(1, math.ceil(late)),
            )

    def seconds_late(self, scheduler: Scheduler, ticket: Ticket) -> float:
        """By how much the worst of the promises would be missed because of `ticket`; not positive if none would."""
        now = scheduler.now()
        free_at = scheduler.engine_free_at(now)
        alone_at = free_at + scheduler.pass_times.seconds(1)
        if alone_at > ticket.due:
            return alone_at - ticket.due
        inside = ticket in scheduler.ahead
        before = len(scheduler.ahead) - inside
        if not before and self.inflight == inside:
            # Whatever is believed of decoding, an idle service tries, and learns.
            return -math.inf
        if not inside and ticket.due >= scheduler.latest_due:
            late = self._late_as_the_last(scheduler, ticket, now, free_at)
            if late is not None:
                return late
        return self._late_by_playing_out(scheduler, ticket, now, free_at)

    def _late_as_the_last(self, scheduler: Scheduler, ticket: Ticket, now: float, free_at: float) -> float | None:
        """The same for the last in line, as where all have the same time: sums, which take no longer under overload.

        None if that does not tell.
        """
        margin = self.margin
        by = ticket.due - margin if ticket.is_hard else ticket.due - min(margin, (ticket.due - now) / 3)
        full, rest = divmod(len(scheduler.ahead), scheduler.max_batch_size)
        turns = sum(self._turns(scheduler, len(scheduler.ahead) + 1))
        passes = turns + full * scheduler.seconds(scheduler.max_batch_size) + scheduler.seconds(rest + 1)
        decoded_at = now + self._decode_pool.seconds_for(self._decode_pool.waiting)
        soonest = max(free_at + passes, decoded_at + scheduler.pass_times.seconds(1))
        if soonest > by:
            return soonest - by
        in_time = decoded_at < free_at  # else a pass may begin without it
        latest = soonest if in_time else max(free_at, decoded_at) + scheduler.seconds(scheduler.max_batch_size) + passes
        beside = islice(reversed(scheduler.ahead), rest) if in_time else scheduler.ahead
        if ticket.is_hard and latest > by:
            return None
        if any(latest > other.due - margin for other in beside if other.is_hard):
            return None
        return soonest - by

    def _late_by_playing_out(self, scheduler: Scheduler, ticket: Ticket, now: float, free_at: float) -> float:
        margin = self.margin
        ahead = [*(other for other in self._waiting(scheduler) if other is not ticket), ticket]
        due = [other.due - margin if other.is_hard else other.due for other in ahead]
        earliest = min(due)
        turns = self._turns(scheduler, len(ahead))
        # If all were decoded first and then ran alone: mostly there is time even for that.
        decoding = sum(other.received and other.answer is None for other in ahead)
        decoded_at = max(free_at, now + self._decode_pool.seconds_for(decoding))
        slowest = decoded_at + len(ahead) * (scheduler.seconds(1) + max(turns))
        if slowest <= earliest:
            return slowest - due[-1]
        ready_at = self._ready_at(ahead, now)
        predict = partial(
            completion_times,
            engine_free_at=free_at,
            max_batch_size=scheduler.max_batch_size,
            seconds=scheduler.seconds,
            turns=turns,
        )
        times = predict(due, ready_at)
        late = times[-1] - due[-1]
        if late <= 0 and any(time > by for time, by in zip(times, due, strict=True)):
            # Who would be late anyway is no reason to refuse another.
            before = predict(due[:-1], ready_at[:-1])
            for with_it, without, by in zip(times, before, due, strict=False):
                if with_it > without:
                    late = max(late, with_it - by)
        return late

    def _ready_at(self, ahead: list[Ticket], now: float) -> list[float]:
        """When each is predicted to be decoded, in the order in which they came."""
        decoding = 0
        ready_at = []
        for other in ahead:
            if other.answer is not None:  # queued
                ready_at.append(-math.inf)
            else:
                ready_at.append(now + self._decode_pool.seconds_for(decoding))
                decoding += other.received  # what is still on its way keeps no thread busy
        return ready_at

    def _learn(self, scheduler: Scheduler, ticket: Ticket) -> None:
        """Keep as much time in hand as lately went where no prediction looks: on a busy event loop, before the queue
        and after the pass.
        """
        if ticket.ready_by is None:
            return
        now = scheduler.now()
        lost = max(0.0, (now if ticket.queued_at is None else ticket.queued_at) - ticket.ready_by)
        lost += now - ticket.answered_at if ticket.answered_at is not None else 0.0
        self._take(lost)

    def _take(self, lost: float) -> None:
        self._lost += _WEIGHT * (min(lost, _OUTLIER * max(self._lost, _SMALL)) - self._lost)

    def _waiting(self, scheduler: Scheduler) -> list[Ticket]:
        return [ticket for ticket in scheduler.ahead if not ticket.settled]

    def _turns(self, scheduler: Scheduler, count: int) -> list[float]:
        """What other models' passes take before each pass of this one: each has a turn while it has tickets."""
        passes = -(-count // scheduler.max_batch_size)
        turns = [0.0] * passes
        for other in scheduler.rivals:
            left = len(other.ahead)
            for number in range(passes):
                size = min(other.max_batch_size, left)
                turns[number] += other.pass_times.seconds(size) if size else 0.0
                left -= size
        return turns

    def _count(self, images: int, body_bytes: int) -> None:
        self.inflight += images
        self._bytes += body_bytes
        self._metrics.inflight_images.set(self.inflight)
