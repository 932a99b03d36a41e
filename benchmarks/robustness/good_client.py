"""A client that does nothing but ask for one image after the other: what it and the probes see of a service."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from benchmarks.load.connection import Connections
from benchmarks.load.generator import Generator, Query
from benchmarks.load.samples import OK, Samples

_EVERY = 0.05  # seconds between the requests
_PATIENCE = 5.0  # seconds
_NORMAL = 10  # answers in a row
_LONGEST_RECOVERY = 30.0  # seconds
_PROBE_PATIENCE = 1.0  # seconds, a kubelet's by default


@dataclass(frozen=True)
class Seen:
    """What became of its requests, and of the probes'."""

    samples: Samples
    probes: int
    failed_probes: int

    @property
    def success(self) -> float:
        """The share of the requests that were answered."""
        return sum(sample.code == OK for sample in self.samples.all) / max(1, len(self.samples))

    def quantile(self, percent: float) -> float:
        """Seconds, of answers; infinite where there are none."""
        latencies = self.samples.latencies()
        return float(np.percentile(latencies, percent)) if len(latencies) else float("inf")


class GoodClient:
    """Twenty requests a second at most, one at a time."""

    def __init__(self, url: str, images: list[bytes], headers: dict[str, str]) -> None:
        """`url` is that of /v1/classify."""
        self._url = url
        connections = Connections(url)
        self._queries = [Query((connections.request("POST", headers, image),)) for image in images]

    async def watch(self, seconds: float) -> Seen:
        """Ask for so long."""
        generator, connections = self._generator()
        probes: list[bool] = []
        probing = asyncio.create_task(self._probe(probes))
        try:
            while generator.clock.now() < seconds:
                query = self._queries[len(generator.samples) % len(self._queries)]
                await generator.send(query, generator.clock.now())
                await asyncio.sleep(_EVERY)
        finally:
            probing.cancel()
            connections.close()
            with suppress(asyncio.CancelledError):
                await probing
        return Seen(generator.samples, len(probes), probes.count(False))

    async def seconds_until_normal(self, normal: float) -> float | None:
        """Until the first of ten answers in a row within `normal` seconds was asked for; None if none comes in time."""
        generator, connections = self._generator()
        since, quick = 0.0, 0
        try:
            while quick < _NORMAL:
                sample = await generator.send(self._queries[0], generator.clock.now())
                if sample.code == OK and sample.latency <= normal:
                    since, quick = since if quick else sample.sent, quick + 1
                elif sample.done > _LONGEST_RECOVERY:
                    return None
                else:
                    quick = 0
                await asyncio.sleep(_EVERY)
        finally:
            connections.close()
        return since

    def _generator(self) -> tuple[Generator, Connections]:
        connections = Connections(self._url)
        return Generator(connections, _PATIENCE), connections

    async def _probe(self, seen: list[bool]) -> None:
        """Note for each probe, once a second, whether it was answered with 200 in time."""
        base = self._url.removesuffix("/v1/classify")
        probes = [Connections(f"{base}/healthz/{name}") for name in ("live", "ready")]
        try:
            while True:
                seen += [await _answers(probe) for probe in probes]
                await asyncio.sleep(1)
        finally:
            for probe in probes:
                probe.close()


async def _answers(probe: Connections) -> bool:
    try:
        async with asyncio.timeout(_PROBE_PATIENCE):
            await probe.get()
    except OSError:
        return False
    return True
