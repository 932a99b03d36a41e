"""An event loop whose clock jumps to the next timer, and an engine and decoders that take exactly that time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from typing import Any, TypeVar

from service.arrays import LogitBatch, PixelBatch
from service.engines.engine import Engine
from service.engines.curve import PassTimes
from service.lanes.decode_pool import DecodePool
from service.lanes.engine_thread import EngineRunner
from service.lanes.shared_cores import Turns

_T = TypeVar("_T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Never waits: an hour of timers passes at once. Raises RuntimeError where nothing would ever happen again."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]
            if not self._scheduled:  # type: ignore[attr-defined]
                raise RuntimeError("everybody waits, and nothing will ever happen")
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run_virtually(main: Coroutine[Any, Any, _T]) -> _T:
    """`asyncio.run` on a VirtualTimeLoop."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


class VirtualRunner(EngineRunner):
    """A pass takes what `times` predicts, and remembers when it began and ended."""

    def __init__(self, times: PassTimes, turns: Turns | None = None) -> None:
        super().__init__(turns)
        self._times = times
        self.passes: list[tuple[float, float]] = []

    async def run(self, engine: Engine, pixels: PixelBatch) -> tuple[LogitBatch, float]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await asyncio.sleep(self._times.seconds(len(pixels)))
        self.passes.append((started, loop.time()))
        return engine.run(pixels), loop.time() - started


@asynccontextmanager
async def _decoding(turns: Turns) -> AsyncIterator[None]:
    await turns.begin_decoding()
    try:
        yield
    finally:
        turns.end_decoding()


class VirtualDecodePool(DecodePool):
    """Every image takes the same time."""

    def __init__(self, threads: int, seconds: float, turns: Turns | None = None) -> None:
        super().__init__(threads, seconds, turns)
        self._seconds = seconds
        self._free = asyncio.Semaphore(threads)

    async def run(self, work: Callable[[bytes], _T], data: bytes) -> tuple[_T, float]:
        self.waiting += 1
        try:
            async with _decoding(self._turns) if self._turns else nullcontext(), self._free:
                await asyncio.sleep(self._seconds)
                return work(data), self._seconds
        finally:
            self.waiting -= 1
