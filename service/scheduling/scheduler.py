"""The scheduler: tickets wait while every lane is busy; whatever waits when one is free becomes its batch."""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from service.errors import DeadlineExceeded, EngineFailure, NotReady
from service.lanes.lane import Answer, BatchAnswer, Done, Fault, Lane, LaneLost, Left
from service.lanes.wire import Item
from service.metrics import ModelMetrics
from service.scheduling.pass_log import PassLog, PassRecord
from service.scheduling.promises import Promises
from service.scheduling.shared_cores import SharedCores
from service.scheduling.statistics import Statistics
from service.scheduling.ticket import Passed, Ticket
from service.scheduling.times import LONG

log = logging.getLogger(__name__)

# What is left for an answer when a deadline ends the wait for a fuller batch: passes vary, and so does the loop.
_DEADLINE_MARGIN, _LOOP_MARGIN = 1.5, 0.005
_SHORTEST_HANG, _HANG = 2.0, 20  # seconds, and times the forecast: a batch that takes longer hangs
_CAUTION = 1.0  # seconds that a suspect leaves the last lane to others: most lanes are replaced by then
_HEAVY_BATCHES = 4  # times what a batch may take, and a long decoding: an image beyond both may not hold every lane


class Lanes(Protocol):
    """What a scheduler needs of a `LanePool`."""

    size: int
    threads: int
    cores: int

    @property
    def ready(self) -> int:
        """How many serve."""

    @property
    def idle(self) -> bool:
        """Whether none has a batch."""

    @property
    def has_free(self) -> bool:
        """Whether one could take a batch."""

    def take(self, *, wide: bool = False) -> Lane:
        """One that is free."""

    def send(
        self, lane: Lane, items: list[Item], done: Done, longest: float, *, wide: bool, alone: bool, budget: float
    ) -> None:
        """Have a batch done on it, within a `budget` for decoding; `done` is called once it is."""


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    tickets: list[Ticket]
    reason: str
    forecast: float  # seconds
    wide: bool
    heavy: bool
    at: float  # loop time at which it was frozen
    dropped: int


class Scheduler:
    """Batches one model's tickets. Work-conserving and late-binding: no timer unless an operator asks for one, and no
    batch is frozen before a lane is free to take it.
    """

    def __init__(
        self,
        lanes: Lanes,
        promises: Promises,
        cores: SharedCores,
        *,
        max_queue_delay: float = 0.0,
        metrics: ModelMetrics,
        pass_log: PassLog,
    ) -> None:
        """`max_queue_delay`: seconds that an idle lane waits for a batch to fill, less if a deadline is near."""
        self.used = 0.0  # see `SharedCores`
        self._loop = asyncio.get_running_loop()
        self.statistics = Statistics()
        self._lanes = lanes
        self._promises = promises
        promises.sharing = lambda: cores.wanted_by(self)
        self._cores = cores
        self._max_queue_delay = max_queue_delay
        self._metrics = metrics
        self._pass_log = pass_log
        self._waiting: list[Ticket] = []
        self._shown = 0  # of them, in the queue depth, which a successor of the same version adds to
        self._running = 0  # tickets in lanes
        self._heavy_running = 0  # batches of one heavy image
        self._batches: list[_Batch] = []  # in lanes
        self._batch_done = asyncio.Event()
        self._wake: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def inflight(self) -> int:
        """Images that wait or are in a lane."""
        return len(self._waiting) + self._running

    def enqueue(self, ticket: Ticket) -> asyncio.Future[Passed]:
        """Have an image's `item` done; its `outcome`, which this returns, will be a `Passed` or a ServiceError.

        EngineFailure if the engine fails on this image, or lanes were lost over it and nothing else; DeadlineExceeded
        if its deadline can no longer be met. Raises NotReady if the scheduler is stopped.
        """
        if self._stopping:
            raise NotReady("the service is shutting down", reason="draining")
        ticket.queued_at, ticket.outcome = self._loop.time(), self._loop.create_future()
        self._waiting.append(ticket)
        self._show_queue()
        if self._lanes.has_free:
            self._cores.serve()
        return ticket.outcome

    def start(self) -> None:
        """Begin to send batches to lanes."""
        self._cores.join(self)

    async def stop(self) -> None:
        """Refuse new tickets, and answer the waiting ones as long as a lane takes any.

        A lane that is still busy with what nobody waits for any more is not waited for.
        """
        self._stopping = True
        self._cores.serve()
        while wanted := [each.outcome for batch in self._batches for each in batch.tickets if not each.settled]:
            self._batch_done.clear()
            done: asyncio.Future[Any] = asyncio.ensure_future(self._batch_done.wait())
            await asyncio.wait([done, *filter(None, wanted)], return_when=asyncio.FIRST_COMPLETED)
            done.cancel()
        for ticket in self._waiting:
            ticket.settle(NotReady("the service is shutting down", reason="draining"))
        self._waiting.clear()
        self._show_queue()
        self._cores.leave(self)
        self._promises.sharing = lambda: 1  # which knew this scheduler: both would wait for the garbage collector

    @property
    def threads(self) -> int:
        """Cores that a batch occupies."""
        return self._lanes.threads

    @property
    def has_work(self) -> bool:
        """Whether any image is ahead or in a lane."""
        return bool(self._running or len(self._promises))

    @property
    def can_serve(self) -> bool:
        """Whether a batch waits and a lane is free to take it."""
        return self._lanes.has_free and bool(self._waiting) and any(self._eligible(self._waiting)) and self._filled()

    def _eligible(self, tickets: list[Ticket]) -> Iterator[bool]:
        """Of each whether it may be served: not while it would hold, or endanger, the last lane."""
        lanes = self._lanes
        heavy_may = self._heavy_running < (lanes.ready - 1 if lanes.size > 1 else 1)
        longest = math.inf if heavy_may else self._heavy_from()
        for ticket in tickets:
            if ticket.suspect and self._loop.time() >= ticket.spares_last_lane_until:
                yield True  # where lanes are lost again and again, it is none of an image's fault
            elif ticket.suspect and lanes.ready < min(2, lanes.size):
                yield False
            else:
                yield heavy_may or not _is_heavy(ticket, longest)

    def _heavy_from(self) -> float:
        """Seconds of decoding of a heavy image, beside ordinary ones: beside many heavy ones none would be."""
        return max(LONG, _HEAVY_BATCHES * self._promises.limits.seconds)

    def _filled(self) -> bool:
        """Whether a batch need not wait any longer, where an operator has it wait to fill."""
        if not self._max_queue_delay or self._stopping or len(self._waiting) >= self._promises.max_batch_size:
            return True
        until = min(self._fill_times())
        if until <= self._loop.time():
            return True
        if self._wake:
            self._wake.cancel()
        self._wake = self._loop.call_at(until, self._cores.serve)
        return False

    def _fill_times(self) -> tuple[float, float]:
        """Loop times at which a deadline and the longest delay end the wait for a fuller batch."""
        needed = _DEADLINE_MARGIN * self._promises.longest_batch + _LOOP_MARGIN
        due = min(ticket.promised_by for ticket in self._waiting) - needed
        return due, min(map(_queued_at, self._waiting)) + self._max_queue_delay

    def serve_one(self) -> None:
        """Send a batch to a lane; `can_serve` holds."""
        waited = "idle"
        if self._max_queue_delay:
            due, filled = self._fill_times()
            waited = "deadline" if due < filled else "delay"
        batch = self._freeze(self._loop.time(), waited)
        if not batch.tickets:  # nobody waits any more
            self._cores.give_back(self, 0.0)
            return
        self._running += len(batch.tickets)
        self._heavy_running += batch.heavy
        lane = self._lanes.take(wide=batch.wide)
        lane.busy_until = batch.at + batch.forecast
        self._batches.append(batch)
        items = [ticket.item for ticket in batch.tickets if ticket.item]
        longest = max(_SHORTEST_HANG, _HANG * batch.forecast)
        done = partial(self._done, batch, time.perf_counter())
        # However wrong the forecasts are, others who wait for this lane wait no longer than for an ordinary batch.
        budget = self._promises.limits.seconds
        self._lanes.send(lane, items, done, longest, wide=batch.wide, alone=batch.tickets[0].suspect, budget=budget)

    def _freeze(self, now: float, waited: str) -> _Batch:
        """The next batch, of tickets whose clients still wait and whose deadlines can still be met."""
        promises, limits = self._promises, self._promises.limits
        # One alone is tried even if it is believed to be late: nothing else could prove the belief wrong.
        alone = len(self._waiting) == 1
        soonest = now + (promises.pass_times.at_best(1) if alone else promises.pass_times.seconds(1))
        for ticket in self._waiting:
            if ticket.deadline < soonest:
                ticket.settle(DeadlineExceeded("the deadline would pass before the answer is ready"))
        waiting = [ticket for ticket in self._waiting if not ticket.settled]
        dropped = [ticket for ticket in self._waiting if ticket.settled]
        free, held = list[Ticket](), list[Ticket]()
        for ticket, may in zip(waiting, self._eligible(waiting), strict=True):
            (free if may else held).append(ticket)
        order, size, forecast = promises.order(free, now), 0, 0.0
        if free:
            # An image that may take longer than a batch is alone in its own.
            long = next((n for n, each in enumerate(order.tickets) if each.longest_decode > limits.seconds), len(free))
            together = order.decoding[: max(1, long)]
            size, forecast = limits.batch_size(together, 0, order.suspects, promises.pass_times.seconds)
        tickets, self._waiting = order.tickets[:size], order.tickets[size:] + held
        promises.forget(*tickets, *dropped)
        self._show_queue()
        if size == limits.images:
            waited = "full"
        elif self._stopping:
            waited = "drain"
        wide = size == 1 and self._lanes.idle and not self._waiting
        heavy = bool(tickets) and _is_heavy(tickets[0], self._heavy_from())
        return _Batch(tickets, waited, forecast, wide, heavy, now, len(dropped))

    def _done(self, batch: _Batch, sent: float, reply: BatchAnswer | LaneLost) -> None:
        try:
            if isinstance(reply, LaneLost):
                self._try_again(batch.tickets, reply, self._loop.time() - batch.at)
            else:
                self._answer(batch, reply, sent)
        finally:
            self._heavy_running -= batch.heavy
            self._running -= len(batch.tickets)
            self._batches.remove(batch)
            self._batch_done.set()
            self._cores.give_back(self, self._loop.time() - batch.at)

    def _answer(self, batch: _Batch, reply: BatchAnswer, sent: float) -> None:
        seconds = reply.pass_ended - reply.pass_started
        answered = 0
        for ticket, outcome in zip(batch.tickets, reply.outcomes, strict=True):
            if isinstance(outcome, Answer):
                answered += 1
                if ticket.image and ticket.item:
                    size, seconds_taken = len(ticket.item.data), outcome.decode_seconds
                    self._promises.decode_times.learn(ticket.image, size, seconds_taken, usual=not batch.heavy)
                ticket.settle(Passed(outcome, reply.began, reply.pass_started, reply.pass_ended))
            elif isinstance(outcome, Left):
                self._wait_again(ticket)
            elif isinstance(outcome, Fault):
                _log_culprit(ticket, outcome.told)
                ticket.settle(EngineFailure("the engine failed on this image"))
            else:
                ticket.settle(outcome)
        if answered:
            if not batch.wide:
                self._promises.pass_times.learn(answered, seconds)
            self.statistics.pass_ended(answered, seconds)
            cores = self._lanes.cores if batch.wide else self._lanes.threads
            self._metrics.count_pass(answered, batch.reason, seconds * cores)
        if any(isinstance(outcome, Answer) and outcome.decode_seconds > LONG for outcome in reply.outcomes):
            self._forecast_again()
        self._promises.learn_way(max(0.0, time.perf_counter() - sent - (reply.pass_ended - reply.began)))
        self._pass_log.add(self._record(batch, answered, seconds, reply.pass_ended - reply.began))

    def _wait_again(self, ticket: Ticket) -> None:
        """For a lane, since it was left; by now more is known of what it takes."""
        if ticket.settled:
            return
        if ticket.image and ticket.item:
            self._promises.foresee(ticket, ticket.item.data)
        self._waiting.append(ticket)
        self._promises.expect(ticket)
        self._show_queue()

    def _try_again(self, tickets: list[Ticket], lost: LaneLost, seconds: float) -> None:
        """Each of them alone, on another lane; the culprit is one over which a second is lost, after `seconds`."""
        if lost.reason == "hang" and len(tickets) == 1 and tickets[0].image and tickets[0].item:
            self._promises.decode_times.learn_longest(tickets[0].image, len(tickets[0].item.data), seconds)
            self._forecast_again()
        for ticket in tickets:
            if ticket.settled:
                continue
            if ticket.suspect:
                _log_culprit(ticket, str(lost))
                ticket.settle(lost.error())
            else:
                ticket.suspect = True
                now = self._loop.time()
                ticket.spares_last_lane_until = now + min(_CAUTION, (ticket.deadline - now) / 2)
                self._loop.call_at(ticket.spares_last_lane_until, self._cores.serve)
                self._waiting.append(ticket)
                self._promises.expect(ticket)
        self._show_queue()

    def _forecast_again(self) -> None:
        """How long those who wait may take, now that one took long: they came before that was known."""
        for ticket in self._waiting:
            if ticket.image and ticket.item:
                ticket.longest_decode = self._promises.decode_times.longest(ticket.image, len(ticket.item.data))

    def _record(self, batch: _Batch, answered: int, pass_seconds: float, batch_seconds: float) -> PassRecord:
        return PassRecord(
            at=batch.at,
            model=self._metrics.model,
            size=answered,
            reason=batch.reason,
            left_waiting=len(self._waiting),
            dropped=batch.dropped,
            waited_ms=round((batch.at - min(map(_queued_at, batch.tickets))) * 1000, 3),
            forecast_ms=round(batch.forecast * 1000, 3),
            batch_ms=round(batch_seconds * 1000, 3),
            pass_ms=round(pass_seconds * 1000, 3),
            wide=batch.wide,
        )

    def _show_queue(self) -> None:
        self._metrics.add_waiting(len(self._waiting) - self._shown)
        self._shown = len(self._waiting)


def _is_heavy(ticket: Ticket, heavy_from: float) -> bool:
    return ticket.suspect or max(ticket.decode_seconds, ticket.longest_decode) > heavy_from


def _queued_at(ticket: Ticket) -> float:
    assert ticket.queued_at is not None
    return ticket.queued_at


def _log_culprit(ticket: Ticket, why: str) -> None:
    """Which image it was, for whoever has it; never what is in it."""
    data = ticket.item.data if ticket.item else b""
    log.error(
        "an image failed: %s",
        why,
        extra={
            "image_sha256": hashlib.sha256(data).hexdigest(),
            "image_bytes": len(data),
            "image_format": ticket.image.format if ticket.image else "pixels",
        },
    )
