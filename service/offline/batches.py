"""Batches of images through a bundle's lanes, for threads that wait: an event loop on a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from socket import socket
from typing import Any, TypeVar
from weakref import WeakSet

import uvloop

from service.bundles.bundle import Bundle
from service.errors import EngineFailure
from service.lanes.lane import Answer, BatchAnswer, Fault, LaneLost, Left, LoadFailure, Outcome
from service.lanes.orders import Loaded, LoadOrder
from service.lanes.pool import LanePool
from service.lanes.process import LaneProcess, Spawn
from service.lanes.wire import Item
from service.offline.image_input import ImageInput, read

_T = TypeVar("_T")
Answers = list[Answer | Exception]  # an image's exception says why it has no answer

_MOST_BYTES = 16 * 2**20  # of encoded images in one batch
# Seconds that a batch may take, and as many more for a billion multiplications: no core is so slow.
_LONGEST, _LONGEST_A_GMAC = 60.0, 1.0
_LOOK = 0.5  # seconds between looks whether lanes can be started at all


class Batches:
    """A bundle's lanes, from `start` to `close`."""

    def __init__(self, bundle: Bundle, spawn: Spawn) -> None:
        """`spawn` starts a lane."""
        self._manifest = bundle.manifest
        self._spawn = spawn
        self._processes: WeakSet[LaneProcess] = WeakSet()
        self._freed = asyncio.Event()
        self._pool = LanePool(bundle.manifest.name, self._start_lane, None, self._freed.set)
        self._running: set[asyncio.Task[Any]] = set()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="classifier", daemon=True)
        self._thread.start()

    @property
    def lanes(self) -> int:
        """How many there are while none is being replaced."""
        return self._pool.size

    def start(self, order: LoadOrder, lanes: int) -> Loaded:
        """Load the model. Raises LoadFailure, LaneLost or OSError if it cannot be."""
        return self._begin(self._pool.start(order, lanes, 3 * self._manifest.image_size**2)).result()

    def submit(self, images: Sequence[ImageInput], top_k: int | None, features: bool) -> "Future[Answers]":
        """Have them read, and passed in one batch unless they are large; to each its answer in their order.

        `top_k` and `features` are those of an `Item`.

        The future raises LoadFailure if no lane is left and none can be started.
        """
        return self._begin(self._answer(images, top_k, features))

    def close(self) -> None:
        """End every lane, whatever it does; what is unanswered is cancelled."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        for process in list(self._processes):
            process.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _start_lane(self, connection: socket) -> LaneProcess:
        process = self._spawn(connection)
        self._processes.add(process)
        return process

    def _begin(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        async def registered() -> _T:
            task = asyncio.current_task()
            assert task
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            return await work

        return asyncio.run_coroutine_threadsafe(registered(), self._loop)

    async def _end(self) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._pool.close()

    async def _answer(self, images: Sequence[ImageInput], top_k: int | None, features: bool) -> Answers:
        answers: Answers = []
        while len(answers) < len(images):
            encoded = await asyncio.to_thread(_read_some, images[len(answers) :])
            items = [Item(data, top_k, features=features) for data in encoded if isinstance(data, bytes)]
            answered = iter(await self._pass(items) if items else [])
            answers += [data if isinstance(data, Exception) else next(answered) for data in encoded]
        return answers

    async def _pass(self, items: list[Item]) -> Answers:
        """If a lane is lost over them, each is tried again, alone: so that only the culprit fails."""
        try:
            return list(map(_told, (await self._run(items, alone=False)).outcomes))
        except LaneLost:
            return [await self._pass_alone(item) for item in items]

    async def _pass_alone(self, item: Item) -> Answer | Exception:
        try:
            return _told((await self._run([item], alone=True)).outcomes[0])
        except LaneLost as lost:
            return lost.error()

    async def _run(self, items: list[Item], *, alone: bool) -> BatchAnswer:
        while not self._pool.has_free:
            if self._pool.given_up:
                raise LoadFailure("every lane is lost, and none can be started")
            self._freed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._freed.wait()
        longest = _LONGEST + _LONGEST_A_GMAC * self._manifest.gmacs * len(items)
        try:
            return await self._pool.run(self._pool.take(), items, longest, wide=False, alone=alone)
        finally:
            self._freed.set()


def _read_some(images: Sequence[ImageInput]) -> list[bytes | Exception]:
    """The first of them, encoded: all unless they are large, and at least one."""
    encoded: list[bytes | Exception] = []
    total = 0
    for image in images:
        try:
            data = read(image)
        except Exception as error:  # whatever Pillow raises for an image that it opened
            encoded.append(error.with_traceback(None))
            continue
        encoded.append(data)
        total += len(data)
        if total >= _MOST_BYTES:
            break
    return encoded


def _told(outcome: Outcome) -> Answer | Exception:
    if isinstance(outcome, Fault):
        *_, why = outcome.told.strip().splitlines()
        return EngineFailure(f"the engine failed on this image: {why}")
    assert not isinstance(outcome, Left)  # there is a day for a batch
    return outcome
