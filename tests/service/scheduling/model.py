"""What admission and a scheduler need of a model, around virtual lanes."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from service.lanes.wire import Item
from service.metrics import Metrics, ModelMetrics
from service.scheduling.pass_log import PassLog
from service.scheduling.promises import Patience, Promises
from service.scheduling.scheduler import Scheduler
from service.scheduling.shared_cores import SharedCores
from service.scheduling.ticket import Priority, Ticket
from service.scheduling.times import DecodeTimes, PassTimes
from tests.virtual_time import VirtualLanes, run_virtually

CURVE = {1: 0.010, 2: 0.015, 4: 0.025}
MAX_BATCH = 4


class Model:
    """Its lanes are as fast as they are forecast to be, unless the test says otherwise."""

    serves = True
    curve = CURVE
    max_batch_size = MAX_BATCH
    lanes_are: type[VirtualLanes] = VirtualLanes
    scheduler_is: type[Scheduler] = Scheduler

    def __init__(
        self,
        lanes: int = 1,
        decode_seconds: float = 0.0,
        metrics: Metrics | None = None,
        *,
        name: str = "m",
        max_queue_delay: float = 0.0,
        cores: SharedCores | None = None,
        loop_lag: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.times = PassTimes(self.curve)
        self.pass_log = PassLog()
        self.registry = (metrics := metrics or Metrics()).registry
        self.metrics: ModelMetrics = metrics.add_model(name, "1", 1)
        cores = cores or SharedCores(lanes)
        self.lanes = self.lanes_are(lanes, self.times, decode_seconds)
        self.lanes.on_free = cores.serve
        self.promises = Promises(
            self.lanes,
            self.max_batch_size,
            self.times,
            DecodeTimes(max(decode_seconds, 1e-6)),
            Patience(target=0, deadline=5),
            loop_lag,
        )
        self.scheduler = self.scheduler_is(
            self.lanes,
            self.promises,
            cores,
            max_queue_delay=max_queue_delay,
            metrics=self.metrics,
            pass_log=self.pass_log,
        )
        self.scheduler.start()

    def ticket(self, seconds: float = 60, priority: Priority = "interactive", decode_seconds: float = 0.0) -> Ticket:
        """Of an image that is wanted within so many seconds."""
        return Ticket(asyncio.get_running_loop().time() + seconds, priority, decode_seconds=decode_seconds)

    async def ask(self, level: int, ticket: Ticket | None = None) -> int:
        """The level that comes back."""
        ticket = ticket or self.ticket()
        ticket.item = Item(bytes([level]), 0)
        self.promises.expect(ticket)
        self.scheduler.enqueue(ticket)
        assert ticket.outcome
        return (await ticket.outcome).answer.answer[0]

    def asks(self, *levels: int) -> list[asyncio.Task[int]]:
        """Have one image a level asked for, all at once."""
        return [asyncio.create_task(self.ask(level)) for level in levels]

    @property
    def batches(self) -> list[list[int]]:
        """The levels of each batch that lanes have answered."""
        return [batch.items for batch in self.lanes.played]

    def count(self, name: str, **labels: str) -> float | None:
        """A metric of this model."""
        return self.registry.get_sample_value(f"mixer_{name}", {"model": self.metrics.model, "version": "1"} | labels)


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test runs on a clock that jumps, and fails after an hour of it."""

    @wraps(test)
    def run(**arguments: Any) -> None:
        run_virtually(asyncio.wait_for(test(**arguments), 3600))

    return run
