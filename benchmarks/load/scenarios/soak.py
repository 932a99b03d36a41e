"""Near capacity for long, with clients and files that are no good, and lanes that are lost: is all accounted for?"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psutil

from benchmarks.load.result import MemorySample
from benchmarks.load.scenarios.closed_loop import capacity
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.server_side import ServerSide, Snapshot, totals
from benchmarks.load.session import Session
from benchmarks.robustness.disturbances import disturbed

_OF_EACH = 98  # queries of a hundred that are ordinary; one is damaged, one hangs up
_SAMPLES = 20  # of memory and connections
_PATIENCE = 0.002  # seconds
_EVERY = 60.0  # seconds between two lanes that are killed, and two reloads; of a short soak a quarter
_LOADED = re.compile(r'^mixer_model_loads_total\{.*outcome="ok".*\} (\S+)', re.MULTILINE)


async def soak(session: Session, parameters: Parameters, repeat: int) -> None:
    """A share of the capacity, or the rate that is given; in the first repeat alone, since it is long by itself."""
    if repeat:
        return
    rate = parameters.rate or parameters.share * await capacity(session, repeat)
    images = session.options.images
    ordinary = session.queries()
    queries = [
        *(query for query in ordinary for _ in range(_OF_EACH)),
        *(session.query([image[: len(image) // 2]]) for image in images),
        *(session.query([image], patience=_PATIENCE) for image in images),
    ]
    every = min(_EVERY, parameters.soak_seconds / 4)
    before = await _loaded(session)
    request, pause = ordinary[0].requests[0], parameters.soak_seconds / _SAMPLES
    async with disturbed(session.target, request, every) as seen, _sampled(session, pause) as samples:
        run = await session.open("soak", repeat, rate, seconds=parameters.soak_seconds, queries=queries)
    run.server.memory = [_memory(*sample) for sample in samples]
    run.server.unsettled_images = await session.unsettled_images()
    session.findings |= {what: float(count) for what, count in sorted(seen.items())}
    if seen["reloads asked for"]:
        session.findings["reloads"] = await _loaded(session) - before


async def _loaded(session: Session) -> float:
    """How many models the service has loaded since it started."""
    server = ServerSide(session.target)
    try:
        return sum(map(float, _LOADED.findall((await server.snapshot()).metrics)))
    finally:
        server.close()


@asynccontextmanager
async def _sampled(session: Session, pause: float) -> AsyncIterator[list[tuple[float, Snapshot]]]:
    """The accounts of a server on this machine, each with its second, taken for the length of the block."""
    samples: list[tuple[float, Snapshot]] = []
    server, began = ServerSide(session.target), time.monotonic()

    async def sample() -> None:
        while session.target.pid:
            with suppress(OSError, psutil.Error):
                samples.append((time.monotonic() - began, await server.snapshot()))
            await asyncio.sleep(pause)

    sampling = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        sampling.cancel()
        await asyncio.wait([sampling])
        server.close()


def _memory(second: float, snapshot: Snapshot) -> MemorySample:
    connections = totals(snapshot.metrics).get("mixer_connections")
    return MemorySample(second=round(second, 1), bytes=snapshot.memory, connections=connections)
