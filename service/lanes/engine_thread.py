"""The one engine thread, on which the passes of all models take turns."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from service.arrays import LogitBatch, PixelBatch
from service.engines.engine import Engine, timed_pass
from service.lanes.shared_cores import Turns

if TYPE_CHECKING:
    from service.scheduling.scheduler import Scheduler

log = logging.getLogger(__name__)

_LONGEST_MEASURED_PASS = 60.0  # seconds; a new engine's first pass at a size may have to prepare itself


class EngineRunner:
    """Runs the passes of all models in turn on the one engine thread, so that they never compete for cores."""

    def __init__(self, turns: Turns | None = None) -> None:
        """`turns` are those that passes and decoding take on shared cores."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._turns = turns
        self._free = asyncio.Lock()  # first come, first served among the models
        self.busy_until = 0.0  # loop time at which the pass in flight is predicted to end
        self.hung = False
        self.schedulers: list[Scheduler] = []  # those that share this engine thread
        self.measured_pass_seconds = 0.0  # predicted, of the pass that a model being loaded waits for or runs
        self._measured_image_seconds = 0.0

    @property
    def takes_turns(self) -> bool:
        """Whether nothing is decoded while a pass runs."""
        return self._turns is not None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The engine to oneself."""
        async with self._free, self._turns.passing() if self._turns else nullcontext():
            yield

    def run(self, engine: Engine, pixels: PixelBatch) -> Awaitable[tuple[LogitBatch, float]]:
        """One pass, off the event loop, and the seconds it took."""
        return asyncio.get_running_loop().run_in_executor(self._executor, timed_pass, engine, pixels)

    async def run_watched(self, engine: Engine, pixels: PixelBatch, longest: float) -> tuple[LogitBatch, float]:
        """One pass. If it takes more than `longest` seconds it hangs: nobody is left waiting, every ticket of every
        model fails at once, and RuntimeError is raised when it is back.
        """
        running = asyncio.ensure_future(self.run(engine, pixels))
        try:
            done, _ = await asyncio.wait({running}, timeout=longest)
            if not done:
                self.hung = True
                log.error("a pass of %d images on %s hangs", len(pixels), engine.name)
                for scheduler in self.schedulers:
                    scheduler.give_up()
                if self._turns:
                    self._turns.give_up()
                await asyncio.wait({running})
                raise RuntimeError(f"the pass came back after more than {longest:g} s")
            return running.result()
        finally:
            self.hung = self.hung and not running.done()

    async def measure(self, engine: Engine, pixels: PixelBatch) -> tuple[LogitBatch, float]:
        """One pass for a model that is being loaded, in its turn among those that serve, and the seconds it took."""
        predicted = self.measured_pass_seconds = self._measured_image_seconds * len(pixels)
        try:
            async with self.turn():
                self.busy_until = asyncio.get_running_loop().time() + predicted
                logits, seconds = await self.run_watched(engine, pixels, _LONGEST_MEASURED_PASS)
        finally:
            self.measured_pass_seconds = 0.0
        self._measured_image_seconds = seconds / len(pixels)
        return logits, seconds

    def add(self, scheduler: "Scheduler") -> None:
        """A model begins to serve."""
        self._change([*self.schedulers, scheduler])

    def remove(self, scheduler: "Scheduler") -> None:
        """A model serves no more."""
        self._change([other for other in self.schedulers if other is not scheduler])

    def _change(self, schedulers: "list[Scheduler]") -> None:
        self.schedulers = schedulers
        if self._turns and schedulers:
            self._turns.images = max(scheduler.max_batch_size for scheduler in schedulers)

    def close(self) -> None:
        """Let the engine thread end."""
        self._executor.shutdown(wait=False, cancel_futures=True)
