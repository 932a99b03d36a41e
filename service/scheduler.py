"""The scheduler: tickets wait while the engine runs; whatever waits when it is free becomes the next batch."""

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from service.engine import Engine, LogitBatch, PixelBatch
from service.errors import EngineFailure, NotReady
from service.metrics import Metrics
from service.postprocess import Logits
from service.preprocess import Pixels

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """One image's logits and when its pass began and ended (time.perf_counter seconds)."""

    logits: Logits
    pass_started: float
    pass_ended: float


@dataclass(slots=True)
class Ticket:
    """One queued image. Its future is the only record of who waits; cancelled, it is dropped at the freeze."""

    pixels: Pixels
    answer: asyncio.Future[Answer]


class EngineRunner:
    """Runs the passes of all models in turn on the one engine thread, so that they never compete for cores."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self.free = asyncio.Lock()  # first come, first served among the models

    async def run(self, engine: Engine, pixels: PixelBatch) -> LogitBatch:
        """One pass, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, engine.run, pixels)

    def close(self) -> None:
        """Let the engine thread end."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Scheduler:
    """Batches one model's tickets. Work-conserving and late-binding: no timer, and no batch is frozen before the
    engine is free to run it.
    """

    def __init__(
        self,
        model: str,
        engine: Engine,
        runner: EngineRunner,
        *,
        max_batch_size: int,
        longest_pass: float,
        metrics: Metrics,
    ) -> None:
        """A pass that takes longer than `longest_pass` seconds has hung."""
        self._model = model
        self._engine = engine
        self._runner = runner
        self.max_batch_size = max_batch_size
        self._metrics = metrics
        self._tickets: deque[Ticket] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._running: list[Ticket] = []
        self._task: asyncio.Task[None] | None = None
        # False once a pass has failed even for a single image, until the next one succeeds.
        self.engine_works = True
        self._pass_started: float | None = None
        self._longest_pass = longest_pass

    @property
    def alive(self) -> bool:
        """Whether tickets are taken."""
        return self._task is not None and not self._task.done()

    @property
    def beats(self) -> bool:
        """Whether tickets are taken and the engine thread comes back from its passes."""
        hung = self._pass_started is not None and time.perf_counter() - self._pass_started > self._longest_pass
        return self.alive and not hung

    def start(self) -> None:
        """Begin serving tickets."""
        self._task = asyncio.create_task(self._serve(), name=f"scheduler-{self._model}")
        self._task.add_done_callback(self._stopped)

    async def submit(self, pixels: Pixels) -> Answer:
        """Queue one image, uint8 [H, W, 3], and wait for its logits.

        Cancelling the caller withdraws the ticket. Raises EngineFailure if the engine fails on this image alone,
        NotReady if the scheduler is closed or dead.
        """
        if self._closing or not self.alive:
            raise NotReady("the service is shutting down" if self._closing else "the scheduler has stopped")
        ticket = Ticket(pixels, asyncio.get_running_loop().create_future())
        self._tickets.append(ticket)
        self._metrics.queue_depth.labels(self._model).set(len(self._tickets))
        self._arrived.set()
        return await ticket.answer

    async def close(self) -> None:
        """Refuse new tickets, answer the waiting ones, stop."""
        self._closing = True
        self._arrived.set()
        if self._task:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _serve(self) -> None:
        while self._tickets or not self._closing:
            self._arrived.clear()
            if not self._tickets:
                await self._arrived.wait()
                continue
            async with self._runner.free:
                batch = self._freeze()
                if batch:
                    self._running = batch
                    await self._pass(batch)
                    self._running = []

    def _freeze(self) -> list[Ticket]:
        """The next batch: the longest-waiting tickets whose clients still wait."""
        batch: list[Ticket] = []
        while self._tickets and len(batch) < self.max_batch_size:
            ticket = self._tickets.popleft()
            if not ticket.answer.done():
                batch.append(ticket)
        self._metrics.queue_depth.labels(self._model).set(len(self._tickets))
        return batch

    async def _pass(self, batch: list[Ticket], retry: bool = False) -> None:
        """Run one pass and answer its tickets; if it fails, run each image alone, so that only the culprit fails."""
        started = self._pass_started = time.perf_counter()
        try:
            logits = await self._runner.run(self._engine, np.stack([ticket.pixels for ticket in batch]))
            if logits.shape[0] != len(batch) or not np.isfinite(logits).all():
                raise RuntimeError(f"the engine answered {logits.shape} for {len(batch)} images, or not with numbers")
        except Exception:
            log.exception("a pass of %d images of %s failed", len(batch), self._model)
            if retry:
                self.engine_works = False
                self._settle(batch[0], EngineFailure("the engine failed on this image"))
                return
            for ticket in batch:
                await self._pass([ticket], retry=True)
            return
        finally:
            self._pass_started = None
        ended = time.perf_counter()
        self.engine_works = True
        self._count_pass(len(batch), ended - started)
        for ticket, row in zip(batch, logits, strict=True):
            self._settle(ticket, Answer(row, started, ended))

    def _count_pass(self, size: int, seconds: float) -> None:
        reason = "full" if size == self.max_batch_size else "drain" if self._closing else "idle"
        self._metrics.passes.labels(self._model, reason).inc()
        self._metrics.batch_size.labels(self._model).observe(size)
        self._metrics.engine_core_seconds.labels(self._model).inc(seconds * self._engine.threads)

    @staticmethod
    def _settle(ticket: Ticket, result: Answer | Exception) -> None:
        if ticket.answer.done():  # its client left during the pass
            return
        if isinstance(result, Exception):
            ticket.answer.set_exception(result)
        else:
            ticket.answer.set_result(result)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        """However the loop ended, nobody is left waiting."""
        if not task.cancelled() and (error := task.exception()):
            log.error("the scheduler of %s died", self._model, exc_info=error)
        for ticket in (*self._running, *self._tickets):
            self._settle(ticket, NotReady("the scheduler has stopped"))
        self._tickets.clear()
