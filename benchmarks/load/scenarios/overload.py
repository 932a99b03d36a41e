"""More than the service can do: what it still does well, how it refuses the rest, and how soon it is itself again."""

import time

from benchmarks.load.connection import Connections
from benchmarks.load.generator import Generator
from benchmarks.load.samples import OK
from benchmarks.load.scenarios.closed_loop import capacity
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.session import Session

_CALM = 10  # queries one after the other that say what is normal
_LONGEST_RECOVERY = 10.0  # seconds


async def overload(session: Session, parameters: Parameters, repeat: int) -> None:
    """A multiple of the capacity, or the rate that is given."""
    rate = parameters.rate or parameters.factor * await capacity(session, repeat)
    calm = [latency for _ in range(_CALM) if (latency := await _latency(session)) is not None]
    recovered: list[float | None] = []

    async def recover() -> None:
        recovered.append(await _seconds_until(session, max(calm)) if calm else None)

    run = await session.open("overload", repeat, rate, afterwards=recover)
    run.recovery_seconds = recovered[0]


async def _seconds_until(session: Session, normal: float) -> float | None:
    """Seconds until a query is as quick as it was, None if that takes longer than ten."""
    started = time.perf_counter()
    while (since := time.perf_counter() - started) < _LONGEST_RECOVERY:
        latency = await _latency(session)
        if latency is not None and latency <= normal:
            return since
    return None


async def _latency(session: Session) -> float | None:
    """Seconds of one query, None if it went wrong."""
    connections = Connections(session.target.url)
    generator = Generator(connections, session.options.timeout)
    try:
        sample = await generator.send(session.queries()[0], generator.clock.now())
    finally:
        connections.close()
    return sample.latency if sample.code == OK else None
