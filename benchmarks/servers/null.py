"""`python -m service` around an engine that does nothing: what is left is its own work. For `benchmarks overhead`."""

import asyncio
import time

import numpy as np
from prometheus_client import Gauge

from service import serve
from service.__main__ import main
from service.app import build_replica
from service.arrays import LogitBatch, PixelBatch
from service.bundles.bundle import Bundle
from service.engines.choice import Build
from service.metrics import Metrics
from service.models.replica import Replica
from service.settings import Settings

_PROBE_SECONDS = 0.001


class NullEngine:
    """Answers the golden images as it must, and everything else with zeros, in no time."""

    name, threads = "null", 1

    def __init__(self, bundle: Bundle) -> None:
        _, self._expected = bundle.golden()

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> float32 [N, classes]."""
        if len(pixels) == len(self._expected):
            return self._expected
        return np.zeros((len(pixels), self._expected.shape[1]), np.float32)


def _engines(bundle: Bundle, threads: int, settings: Settings) -> dict[str, list[Build]]:
    return {"null": [lambda: NullEngine(bundle)]}


class _WatchedReplica(Replica):
    """Records by how much its event loop was ever late: the longest time that something held it."""

    def start(self) -> None:
        super().start()
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        longest = Gauge("loop_longest_hold_seconds", "As it says.", registry=self.metrics.registry)
        worst = 0.0
        while True:
            started = time.perf_counter()
            await asyncio.sleep(_PROBE_SECONDS)
            worst = max(worst, time.perf_counter() - started - _PROBE_SECONDS)
            longest.set(worst)


def _build(settings: Settings, metrics: Metrics) -> Replica:
    replica = build_replica(settings, metrics, _engines)
    replica.__class__ = _WatchedReplica
    return replica


if __name__ == "__main__":
    serve.build_replica = _build  # type: ignore[assignment, attr-defined]
    main()
