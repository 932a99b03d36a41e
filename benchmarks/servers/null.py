"""`python -m service` around an engine that does nothing: what is left is its own work. For `benchmarks overhead`."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from prometheus_client import Gauge

from service.app import build_replica
from service.arrays import LogitBatch, Outputs, PixelBatch
from service.bundles.bundle import Bundle
from service.lanes.process import ForkedLane, Spawn
from service.metrics import Metrics
from service.models.replica import Replica
from service.settings import Settings

_PROBE_SECONDS = 0.001


class NullEngine:
    """Answers the golden images as it must, and everything else with zeros, in no time."""

    name = "null"

    def __init__(self, bundle: Bundle) -> None:
        self._outputs = bundle.golden()[1]
        self._expected = next(iter(self._outputs.values()))

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> float32 [N, classes]."""
        if len(pixels) == len(self._expected):
            return self._expected
        return np.zeros((len(pixels), self._expected.shape[1]), np.float32)

    def outputs(self, pixels: PixelBatch) -> Outputs:
        """The same of every output."""
        if len(pixels) == len(self._expected):
            return self._outputs
        return {name: np.zeros((len(pixels), output.shape[1]), np.float32) for name, output in self._outputs.items()}


def _run(connection: socket.socket) -> None:
    from service.lanes.program import serve  # noqa: PLC0415 - the decoders belong to the lane, not to the front

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # to the whole group; the front decides
    os.nice(5)  # as a lane of the service does
    serve(connection, lambda bundle, *_: {"null": lambda: NullEngine(bundle)})


NullLane = partial(ForkedLane, run=_run)  # a lane around that engine


class WatchedReplica(Replica):
    """Records by how much its event loop was ever late: the longest time that something held it."""

    async def start(self) -> None:
        """As a replica does, and watch."""
        await super().start()
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        longest = Gauge("loop_longest_hold_seconds", "As it says.", registry=self.metrics.registry)
        worst = 0.0
        while True:
            started = time.perf_counter()
            await asyncio.sleep(_PROBE_SECONDS)
            worst = max(worst, time.perf_counter() - started - _PROBE_SECONDS)
            longest.set(worst)


def build(
    settings: Settings, metrics: Metrics, spawn: Spawn = NullLane, make_room: Callable[[], bool] = lambda: False
) -> Replica:
    """The replica to serve with."""
    replica = build_replica(settings, metrics, spawn, make_room)
    replica.__class__ = WatchedReplica
    return replica


if __name__ == "__main__":
    from service import serve
    from service.__main__ import main

    serve.build_replica = build  # type: ignore[attr-defined]
    main()
