"""How far the event loop is behind: under a flood of requests every step of every request waits for it."""

import asyncio
import time
from collections.abc import Callable

_PERIOD = 0.02  # seconds between looks
_RELEASE = 0.2  # of a smaller lag taken at a time: it rises at once and falls slowly
_WEIGHT = 0.1  # of the newest look, in their mean
# Times that an image's way waits for the loop: its request, its lane's answer, its own.
_STEPS = 3


class LoopLag:
    """Looks at the loop it is started on; `count_cpu` gets the CPU seconds of its thread, as they are spent."""

    def __init__(self, count_cpu: Callable[[float], None] = lambda _: None) -> None:
        self.seconds = self._mean = 0.0
        self._count_cpu = count_cpu
        self._task: asyncio.Task[None] | None = None

    @property
    def on_the_way(self) -> float:
        """Seconds that an image is forecast to lose to the loop between the door and its answer.

        Once as many as lately at worst, and at its other steps as many as in the mean: a loop that is held now and then
        is not held at every step.
        """
        return self.seconds + (_STEPS - 1) * min(self._mean, self.seconds)

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._look(), name="loop-lag")

    def stop(self) -> None:
        """Look no more."""
        if self._task:
            self._task.cancel()

    async def _look(self) -> None:
        spent = time.thread_time()
        while True:
            started = time.perf_counter()
            await asyncio.sleep(_PERIOD)
            self.take(time.perf_counter() - started - _PERIOD)
            before, spent = spent, time.thread_time()
            self._count_cpu(spent - before)

    def take(self, lag: float) -> None:
        """Take in by how much a look came late."""
        self.seconds = max(lag, self.seconds + _RELEASE * (max(0.0, lag) - self.seconds))
        self._mean += _WEIGHT * (max(0.0, lag) - self._mean)
