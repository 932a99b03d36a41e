"""The lanes of one model: as many as its cores and memory allow, each replaced when it is lost."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from service.engines.curve import PassSeconds
from service.lanes.lane import A_DAY, BatchAnswer, Done, Lane, LaneLost, LoadFailure, settle
from service.lanes.memory import held_bytes
from service.lanes.orders import Loaded, LoadOrder
from service.lanes.process import Spawn
from service.lanes.wire import Item

if TYPE_CHECKING:  # who counts nothing loads nothing that does
    from service.metrics import Metrics

log = logging.getLogger(__name__)

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0  # seconds between two attempts to replace a lane
_TOO_MUCH = 0.9  # of the limit, at which allocations fail: a lane that holds more serves no longer
_LOOK = 0.5  # seconds between looks at what the lanes hold in memory, and go on holding from batch to batch
_LOOKS = 6  # in a row, over the same batch, after which it has more than it needs
_COMPARED = 3  # passes of every lane at once
_PARTING = 1.0  # seconds that a lane has to take what is on its way to it
_GIVEN_UP = 5  # attempts in a row, after which nobody should wait for a lane any longer


class LanePool:
    """Use `start`, then `take` a free lane and `send` or `run` a batch on it."""

    def __init__(self, name: str, spawn: Spawn, metrics: "Metrics | None", on_free: Callable[[], None]) -> None:
        """`name` is the model's, for the log; `on_free` is called whenever a lost lane is replaced."""
        self._name = name
        self._spawn = spawn
        self._metrics = metrics
        self._on_free = on_free
        self._free: list[Lane] = []
        self._lanes: dict[Lane, LoadOrder] = {}  # those that serve, and what one in its place is to load
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_in_a_row = 0
        self.size = 0  # of them when all serve
        self.threads = 1  # of a lane's pass
        self.cores = 1  # that a pass over one image alone may occupy

    @property
    def ready(self) -> int:
        """How many serve now, each proven on the golden images."""
        return len(self._lanes)

    @property
    def given_up(self) -> bool:
        """Whether no lane serves, and again and again none could be started."""
        return not self._lanes and self._failed_in_a_row >= _GIVEN_UP

    @property
    def idle(self) -> bool:
        """Whether no lane has a batch."""
        return len(self._free) == len(self._lanes)

    @property
    def has_free(self) -> bool:
        """Whether a lane could take a batch now."""
        return bool(self._free)

    def free_at(self, now: float) -> list[float]:
        """Of every lane that serves, when it is forecast to be free."""
        return [max(now, lane.busy_until) if lane not in self._free else now for lane in self._lanes]

    async def start(self, order: LoadOrder, lanes: int, image_bytes: int) -> Loaded:
        """Start the first lane, which chooses and measures, then `lanes` in all, as it chose.

        `image_bytes` are those of an image's pixels. Raises LoadFailure or LaneLost if one cannot be started.
        """
        first, loaded = await Lane.start(self._spawn, order)
        self.size, self.threads = lanes, order.threads
        self.cores = order.wide_threads or order.threads
        like_it = replace(order, engine=loaded.engine, max_batch_size=loaded.max_batch_size, measure=False)
        self._add(first, like_it)
        narrow = replace(like_it, wide_threads=0)
        try:
            # Every one of them is waited for, so that none is left over where another fails.
            failures = await asyncio.gather(*(self._start(narrow) for _ in range(1, lanes)), return_exceptions=True)
            for failure in filter(None, failures):
                raise failure
            self._begin(self._watch_memory(order.memory))
            if not order.measure:
                return loaded
            curve = await self._in_company(loaded.pass_seconds, loaded.max_batch_size, image_bytes)
        except BaseException:
            await self.close()
            raise
        return replace(loaded, pass_seconds=curve)

    async def _in_company(self, curve: PassSeconds, max_batch_size: int, image_bytes: int) -> PassSeconds:
        """What passes take while every lane makes them: lanes share caches, memory and often the core itself."""
        zeros = [Item(bytes(image_bytes), 0, is_pixels=True)] * max_batch_size
        fastest = float("inf")
        for _ in range(_COMPARED):
            lanes = [self.take() for _ in range(len(self._free))]
            replies = await asyncio.gather(*(self.run(lane, zeros, 60, wide=False, alone=False) for lane in lanes))
            if not replies:
                raise LaneLost("crash", "every lane was lost while it was measured", in_decoding=False)
            seconds = sum(reply.pass_ended - reply.pass_started for reply in replies) / len(replies)
            fastest = min(fastest, seconds)
        stretch = max(1.0, fastest / curve[max_batch_size])
        return {size: stretch * seconds for size, seconds in curve.items()}

    def take(self, *, wide: bool = False) -> Lane:
        """A free lane, which is the caller's until it has run; `wide` prefers one that can use all cores."""
        free = self._free
        # Of several the one that was busy last: its caches are warm.
        latest_first = range(len(free) - 1, -1, -1)
        return free.pop(next((k for k in latest_first if free[k].has_wide_engine == wide), len(free) - 1))

    def send(
        self, lane: Lane, items: list[Item], done: Done, longest: float, *, wide: bool, alone: bool, budget: float
    ) -> None:
        """One batch on a lane that was taken; see `Lane.send`. The lane is free once `done` is called."""

        def finished(reply: BatchAnswer | LaneLost) -> None:
            if lane in self._lanes and not isinstance(reply, LaneLost):
                self._free.append(lane)
            done(reply)

        wide = wide and lane.has_wide_engine
        lane.send(items, finished, longest=longest, wide=wide, alone=alone, budget=budget)

    async def run(self, lane: Lane, items: list[Item], longest: float, *, wide: bool, alone: bool) -> BatchAnswer:
        """The same, for who can wait; raises LaneLost."""
        answered: asyncio.Future[BatchAnswer] = asyncio.get_running_loop().create_future()
        self.send(lane, items, partial(settle, answered), longest, wide=wide, alone=alone, budget=A_DAY)
        return await answered

    async def close(self) -> None:
        """Let every lane end; one that has a batch still, for which nobody waits, is ended."""
        for task in self._tasks:
            task.cancel()
        lanes = list(self._lanes)
        for lane in lanes:
            busy = lane not in self._free
            self._forget(lane)
            if busy:  # perhaps for ever: it would not hear that it is to end
                lane.kill("hang")
            else:
                lane.close()
        if lanes:
            await asyncio.wait([lane.lost for lane in lanes], timeout=_PARTING)

    async def _start(self, order: LoadOrder) -> None:
        lane, _ = await Lane.start(self._spawn, order)
        self._add(lane, order)

    def _add(self, lane: Lane, order: LoadOrder) -> None:
        self._lanes[lane] = order
        self._free.append(lane)
        if self._metrics:
            self._metrics.lanes_ready.inc()
        lane.lost.add_done_callback(lambda _: self._on_lost(lane))

    def _on_lost(self, lane: Lane) -> None:
        if lane in self._lanes:
            order = self._forget(lane)
            if self._metrics:
                self._metrics.lane_restarts.labels(lane.reason).inc()
            self._begin(self._replace(lane, order))

    def _forget(self, lane: Lane) -> LoadOrder:
        if self._metrics:
            self._metrics.lanes_ready.dec()
        if lane in self._free:
            self._free.remove(lane)
        return self._lanes.pop(lane)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=f"lanes-{self._name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, lane: Lane, order: LoadOrder) -> None:
        ending = await asyncio.to_thread(lane.process.ending)
        lane.process.kill()  # it may have closed its connection, and live on
        log.error(
            "a lane of %s is lost: %s", self._name, ending, extra={"reason": lane.reason, "pid": lane.process.pid}
        )
        pause = 0.0
        while True:
            await asyncio.sleep(pause)
            try:
                await self._start(order)
            except Exception as error:  # whatever it is, the next attempt may succeed
                self._failed_in_a_row += 1
                pause = min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, 2 * pause))
                trace = None if isinstance(error, (LoadFailure, LaneLost, OSError)) else error
                told = self._name, pause, error
                log.error("a lane of %s cannot be started, next attempt in %g s: %s", *told, exc_info=trace)
            else:
                break
        self._failed_in_a_row = 0
        self._on_free()

    async def _watch_memory(self, limit: int) -> None:
        large: dict[Lane, tuple[int, int]] = {}  # of those that hold too much: which batch they had, and looks since
        while limit:
            await asyncio.sleep(_LOOK)
            before, large = large, {}
            for lane in list(self._lanes):
                if held_bytes(lane.process.pid) <= _TOO_MUCH * limit:
                    continue
                batch, looks = before.get(lane, (lane.batches, 0))
                large[lane] = lane.batches, looks + 1
                # What a batch needs is given back after it, and bounded by itself: see `bound_memory`.
                if lane in self._free or batch != lane.batches or looks >= _LOOKS:
                    log.error("a lane of %s holds nearly all of its %d MiB", self._name, limit >> 20)
                    lane.kill("memory")
                    self._on_lost(lane)
