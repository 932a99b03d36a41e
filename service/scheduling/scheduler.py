"""The scheduler: tickets wait while the engine runs; whatever waits when it is free becomes the next batch."""

import asyncio
import logging
import math
import time
from dataclasses import dataclass

import numpy as np

from service.arrays import Pixels
from service.engines.engine import Engine
from service.engines.pass_times import PassTimes
from service.errors import DeadlineExceeded, EngineFailure, NotReady, ServiceError
from service.lanes.engine_thread import EngineRunner
from service.metrics import Metrics
from service.scheduling.order import PassSecondsOf, serving_order
from service.scheduling.pass_log import PassLog, PassRecord
from service.scheduling.statistics import Statistics
from service.scheduling.ticket import Answer, Ticket

log = logging.getLogger(__name__)

# What is left for an answer when a deadline ends the wait for a fuller batch: passes vary, and so does the loop.
_DEADLINE_MARGIN, _LOOP_MARGIN = 1.5, 0.005


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How batches form."""

    max_batch_size: int
    max_queue_delay: float = 0.0  # seconds that an idle engine waits for a batch to fill, less if a deadline is near
    longest_pass: float = 10.0  # seconds; a pass that takes longer has hung
    between_passes: PassSecondsOf = lambda size: 0.0  # seconds that decoding keeps a pass over `size` images waiting


class Scheduler:
    """Batches one model's tickets. Work-conserving and late-binding: no timer unless the policy asks for one, and no
    batch is frozen before the engine is free to run it.
    """

    def __init__(
        self,
        model: str,
        engine: Engine,
        runner: EngineRunner,
        *,
        policy: BatchPolicy,
        pass_times: PassTimes,
        metrics: Metrics,
        pass_log: PassLog,
    ) -> None:
        self.model = model
        self.max_batch_size = policy.max_batch_size
        self.pass_times = pass_times
        self.statistics = Statistics()
        self._engine = engine
        self._runner = runner
        self._policy = policy
        self._metrics = metrics
        self._pass_log = pass_log
        # Let in and taken by no pass yet, in the order of their coming: on their way in, being decoded, or queued.
        self.ahead: dict[Ticket, None] = {}
        # Since last none was ahead: the latest time that any was wanted by, and whether all came in that order.
        self.latest_wanted, self.in_line = -math.inf, True
        self._tickets: list[Ticket] = []
        self._shown = 0  # of them, in the queue depth, which every version of the model adds to
        self._running: list[Ticket] = []
        self._dropped = 0
        self._arrived = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        # False once a pass has failed even for a single image, until the next one succeeds.
        self.engine_works = True

    @property
    def rivals(self) -> list["Scheduler"]:
        """Those whose passes take turns with this one's."""
        return [scheduler for scheduler in self._runner.schedulers if scheduler is not self]

    @property
    def alive(self) -> bool:
        """Whether tickets are taken."""
        return self._task is not None and not self._task.done()

    @property
    def beats(self) -> bool:
        """Whether tickets are taken and the engine thread comes back from its passes."""
        return self.alive and not self._runner.hung

    def seconds(self, size: int) -> float:
        """Predicted time from the end of a pass to the end of the next, over `size` images."""
        between = self._policy.between_passes(size) + self._runner.measured_pass_seconds
        return self.pass_times.seconds(size) + between

    def now(self) -> float:
        """The event loop's time, which deadlines are in."""
        return asyncio.get_running_loop().time()

    def engine_free_at(self, now: float) -> float:
        """When the pass in flight, whosever it is, is predicted to end; `now` if there is none or it should have."""
        return max(now, self._runner.busy_until)

    def passes_before_decoding(self, images: int) -> float:
        """Predicted time that passes keep an image waiting that is to be decoded behind so many others."""
        if not self._runner.takes_turns:
            return 0.0
        now = self.now()
        full_passes = images // self.max_batch_size * self.pass_times.seconds(self.max_batch_size)
        return self.engine_free_at(now) - now + full_passes

    def expect(self, ticket: Ticket) -> None:
        """It is let in, or has another time now, or is back among those who are."""
        if not self.ahead:
            self.latest_wanted, self.in_line = ticket.wanted_by, True
        self.in_line = self.in_line and ticket.wanted_by >= self.latest_wanted and ticket not in self.ahead
        self.latest_wanted = max(self.latest_wanted, ticket.wanted_by)
        self.ahead[ticket] = None

    def overlook(self, ticket: Ticket) -> None:
        """Its upload takes so long that nobody need be sent away for it; `expect` it again."""
        self.ahead.pop(ticket, None)

    def start(self) -> None:
        """Begin serving tickets."""
        self._runner.add(self)
        self._task = asyncio.create_task(self._serve(), name=f"scheduler-{self.model}")
        self._task.add_done_callback(self._stopped)

    async def submit(self, pixels: Pixels, ticket: Ticket) -> Answer:
        """Queue one image, uint8 [H, W, 3], and wait for its logits.

        Cancelling the caller withdraws the ticket. Raises EngineFailure if the engine fails on this image alone or
        hangs, DeadlineExceeded if the ticket's deadline can no longer be met, NotReady if the scheduler is closed,
        dead, or its engine hangs.
        """
        if self._closing or not self.beats:
            raise NotReady("the service is shutting down" if self._closing else "the scheduler has stopped")
        ticket.pixels, ticket.queued_at = pixels, self.now()
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        ticket.answer = answer
        self._tickets.append(ticket)
        self._show_queue()
        self._arrived.set()
        return await answer

    async def close(self) -> None:
        """Refuse new tickets, answer the waiting ones, stop."""
        self._closing = True
        self._arrived.set()
        if self._task and self._runner.hung:  # nobody waits any more
            self._task.cancel()
        if self._task:
            await asyncio.gather(self._task, return_exceptions=True)
        self._runner.remove(self)

    async def _serve(self) -> None:
        while self._tickets or not self._closing:
            self._arrived.clear()
            if not self._tickets:
                await self._arrived.wait()
                continue
            delayed = await self._let_batch_fill()
            async with self._runner.turn():
                batch = self._freeze()
                if batch:
                    self._running = batch
                    await self._pass(batch, self._reason(batch, delayed))
                    self._running = []

    async def _let_batch_fill(self) -> str | None:
        """Wait for a full batch where an operator wants that; returns what cut the wait short, if anything did."""
        while self._policy.max_queue_delay and not self._closing and 0 < len(self._tickets) < self.max_batch_size:
            needed = _DEADLINE_MARGIN * self.seconds(self.max_batch_size) + _LOOP_MARGIN
            due = min(ticket.due for ticket in self._tickets) - needed
            filled = min(_queued_at(ticket) for ticket in self._tickets) + self._policy.max_queue_delay
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(min(due, filled)):
                    await self._arrived.wait()  # perhaps of one who has less time
            except TimeoutError:
                return "deadline" if due < filled else "delay"
        return None

    def _reason(self, batch: list[Ticket], delayed: str | None) -> str:
        if len(batch) == self.max_batch_size:
            return "full"
        return "drain" if self._closing else delayed or "idle"

    def _freeze(self) -> list[Ticket]:
        """The next batch, of tickets whose clients still wait and whose deadlines can still be met."""
        now = self.now()
        # One alone is tried even if it is believed to be late: nothing else could prove the belief wrong.
        alone = len(self._tickets) == 1
        soonest = now + (self.pass_times.at_best(1) if alone else self.pass_times.seconds(1))
        waiting = []
        for ticket in self._tickets:
            if ticket.deadline < soonest:
                _settle(ticket, DeadlineExceeded("the deadline would pass before the answer is ready"))
            if not ticket.settled:
                waiting.append(ticket)
        self._dropped = len(self._tickets) - len(waiting)
        order = serving_order(waiting, now, self.max_batch_size, self.seconds)
        batch, self._tickets = order[: self.max_batch_size], order[self.max_batch_size :]
        for ticket in batch:
            self.ahead.pop(ticket, None)
        self._show_queue()
        return batch

    async def _pass(self, batch: list[Ticket], reason: str, retry: bool = False, still_to_retry: int = 0) -> None:
        """Run one pass and answer its tickets; if it fails, run each image alone, so that only the culprit fails."""
        at, started = self.now(), time.perf_counter()
        predicted = self.pass_times.seconds(len(batch))
        self._runner.busy_until = at + predicted + still_to_retry * self.pass_times.seconds(1)
        failed, seconds = True, 0.0
        try:
            pixels = np.stack([ticket.pixels for ticket in batch])
            logits, seconds = await self._runner.run_watched(self._engine, pixels, self._policy.longest_pass)
            if logits.shape[0] != len(batch) or not np.isfinite(logits).all():
                raise RuntimeError(f"the engine answered {logits.shape} for {len(batch)} images, or not with numbers")
            failed = False
        except Exception:
            log.exception("a pass of %d images of %s failed", len(batch), self.model)
        record = self._record(batch, reason, at, predicted, seconds, failed)
        self._pass_log.add(record)
        if failed:
            await self._retry(batch, retry)
            return
        self.engine_works = True
        self.pass_times.learn(len(batch), seconds)
        self.statistics.pass_ended(len(batch), seconds)
        self._metrics.passes.labels(self.model, reason).inc()
        self._metrics.batch_size.labels(self.model).observe(len(batch))
        self._metrics.engine_core_seconds.labels(self.model).inc(seconds * self._engine.threads)
        ended = time.perf_counter()
        for ticket, row in zip(batch, logits, strict=True):
            ticket.answered_at = self.now()
            _settle(ticket, Answer(row, started, ended))

    def give_up(self) -> None:
        """Fail every ticket: the engine does not come back."""
        for ticket in (*self._running, *self._tickets):
            _settle(ticket, EngineFailure("the engine does not come back from a pass"))

    async def _retry(self, batch: list[Ticket], retry: bool) -> None:
        """Each image alone, once; where that fails too, or nobody waits any more, the engine counts as broken."""
        if retry or all(ticket.settled for ticket in batch):
            self.engine_works = False
            _settle(batch[0], EngineFailure("the engine failed on this image"))
            return
        for number, ticket in enumerate(batch, start=1):
            if not ticket.settled:
                await self._pass([ticket], "idle", retry=True, still_to_retry=len(batch) - number)

    def _record(
        self, batch: list[Ticket], reason: str, at: float, predicted: float, seconds: float, failed: bool
    ) -> PassRecord:
        return PassRecord(
            at=at,
            model=self.model,
            size=len(batch),
            reason=reason,
            left_waiting=len(self._tickets),
            dropped=self._dropped,
            waited_ms=round((at - min(map(_queued_at, batch))) * 1000, 3),
            predicted_ms=round(predicted * 1000, 3),
            actual_ms=round(seconds * 1000, 3),
            failed=failed,
        )

    def _show_queue(self) -> None:
        self._metrics.queue_depth.labels(self.model).inc(len(self._tickets) - self._shown)
        self._shown = len(self._tickets)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        """However the loop ended, nobody is left waiting."""
        if not task.cancelled() and (error := task.exception()):
            log.error("the scheduler of %s died", self.model, exc_info=error)
        for ticket in (*self._running, *self._tickets):
            _settle(ticket, NotReady("the scheduler has stopped"))
        self._tickets.clear()
        self._show_queue()


def _queued_at(ticket: Ticket) -> float:
    assert ticket.queued_at is not None
    return ticket.queued_at


def _settle(ticket: Ticket, result: Answer | ServiceError) -> None:
    if ticket.answer is None or ticket.settled:  # its client left
        return
    if isinstance(result, ServiceError):
        ticket.answer.set_exception(result)
    else:
        ticket.answer.set_result(result)
