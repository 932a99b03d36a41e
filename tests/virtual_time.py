"""An event loop whose clock jumps to the next timer, and lanes that take exactly the time that they are forecast to."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from unittest.mock import patch

from service.errors import InvalidImage
from service.lanes.lane import Answer, BatchAnswer, Done, Fault, LaneLost, Outcome
from service.lanes.wire import Item
from service.scheduling.times import PassTimes

_T = TypeVar("_T")

DAMAGED, POISON, KILLER = 1, 2, 3  # images that do not decode, that the engine fails on, that end their lane


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
    """`asyncio.run` on a VirtualTimeLoop, whose time `perf_counter` tells too."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, patch("time.perf_counter", runner.get_loop().time):
        return runner.run(main)


class VirtualLane:
    """A lane that takes exactly as long as it is forecast to."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.busy_until = 0.0


@dataclass(frozen=True)
class Played:
    """A batch as a lane saw it: loop times, and the first byte of each item."""

    lane: int
    began: float
    ended: float
    items: list[int]


class VirtualLanes:
    """Stands for a LanePool whose batches take what `times` says, and `decode_seconds` an image of the real world.

    An item is one byte, the level that its answer names, or one of DAMAGED, POISON and KILLER.
    """

    cores = 1
    threads = 1

    def __init__(self, count: int, times: PassTimes, decode_seconds: float = 0.0) -> None:
        self.size = count
        self.ready = count
        self.played: list[Played] = []
        self.budgets: list[float] = []  # seconds for decoding, of each batch
        self.on_free: Callable[[], None] = lambda: None
        self._times = times
        self._decode_seconds = decode_seconds
        self._lanes = [VirtualLane(number) for number in range(count)]
        self._free = list(self._lanes)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        return len(self._free) == self.ready

    @property
    def has_free(self) -> bool:
        return bool(self._free)

    def free_at(self, now: float) -> list[float]:
        return [now if lane in self._free else max(now, lane.busy_until) for lane in self._lanes]

    def take(self, *, wide: bool = False) -> Any:
        return self._free.pop(0)

    def send(
        self, lane: Any, items: list[Item], done: Done, longest: float, *, wide: bool, alone: bool, budget: float
    ) -> None:
        self.budgets.append(budget)

        async def run() -> None:
            try:
                done(await self.run(lane, items, longest, wide=wide, alone=alone))
            except LaneLost as lost:
                done(lost)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self, lane: Any, items: list[Item], longest: float, *, wide: bool, alone: bool) -> BatchAnswer:
        loop = asyncio.get_running_loop()
        began = loop.time()
        good = [item for item in items if item.data[0] != DAMAGED]
        await asyncio.sleep(self._decode_seconds * len(items))
        passing = loop.time()
        if any(item.data[0] == KILLER for item in items):
            self.ready -= 1
            self._lanes.remove(lane)
            loop.call_later(0.02, self._replace, lane)
            raise LaneLost("crash", "killed", in_decoding=False)
        if good:
            await asyncio.sleep(self._times.seconds(len(good)))
        self.played.append(Played(lane.number, began, loop.time(), [item.data[0] for item in items]))
        self._free.append(lane)
        return BatchAnswer([self._outcome(item) for item in items], began, passing, loop.time())

    def _replace(self, lane: VirtualLane) -> None:
        self.ready += 1
        self._lanes.append(lane)
        self._free.append(lane)
        self.on_free()

    def _outcome(self, item: Item) -> Outcome:
        level = item.data[0]
        if level == DAMAGED:
            return InvalidImage("damaged")
        if level == POISON:
            return Fault("poisoned")
        return Answer(bytes([level]), b"{}", self._decode_seconds)
