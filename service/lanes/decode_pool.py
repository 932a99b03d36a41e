"""The threads that decode, how busy they are, and how many pixels they may hold at once."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from service.lanes.shared_cores import Turns

_T = TypeVar("_T")
_WEIGHT = 0.1  # of the newest image in the running mean
_OUTLIER = 4.0  # times the mean: what an image beyond it counts as, since one huge image must not close the door


class DecodePool:
    """Runs `prepare` off the event loop, first come, first served."""

    def __init__(self, threads: int, seconds: float, turns: Turns | None = None) -> None:
        """`seconds` is what an image takes until the first ones have shown it; `turns` are those on shared cores."""
        self._turns = turns
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._threads = threads
        self._mean_seconds = seconds
        self.waiting = 0  # images in the pool, those being decoded included

    async def run(self, work: Callable[[bytes], _T], data: bytes) -> tuple[_T, float]:
        """`work(data)` in a thread, and the seconds it took there.

        A thread that has begun cannot be stopped: if the caller is cancelled, it goes on to hold what it holds.
        """
        self.waiting += 1
        if self._turns:
            try:
                await self._turns.begin_decoding()
            except BaseException:
                self.waiting -= 1
                raise
        job = self._executor.submit(_timed, work, data)
        decoding = asyncio.wrap_future(job)
        decoding.add_done_callback(self._done)
        try:
            return await asyncio.shield(decoding)
        except asyncio.CancelledError:
            job.cancel()  # unless it has begun
            raise

    def _done(self, decoding: asyncio.Future[tuple[_T, float]]) -> None:
        self.waiting -= 1
        if self._turns:
            self._turns.end_decoding()
        if not decoding.cancelled() and not decoding.exception():
            seconds = min(decoding.result()[1], _OUTLIER * self._mean_seconds)
            self._mean_seconds += _WEIGHT * (seconds - self._mean_seconds)

    def seconds_for(self, images: int) -> float:
        """Predicted time until one more image is decoded behind `images` others."""
        return self._mean_seconds * (1 + images / self._threads)

    def seconds_before_pass(self, images: int) -> float:
        """Predicted time that decoding a batch keeps a pass waiting: none unless they share their cores."""
        return self._mean_seconds * images / self._threads if self._turns else 0.0

    def close(self) -> None:
        """Let the threads end."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _timed(work: Callable[[bytes], _T], data: bytes) -> tuple[_T, float]:
    started = time.perf_counter()
    result = work(data)
    return result, time.perf_counter() - started


class PixelBudget:
    """Decoded pixels in memory at once: whoever would exceed it waits for another thread to finish."""

    def __init__(self, pixels: int) -> None:
        """At least an image's `MAX_PIXELS`, so that every accepted image fits alone."""
        self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, pixels: int) -> Iterator[None]:
        """Hold `pixels` for the block; called in decode threads, which may wait."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()
