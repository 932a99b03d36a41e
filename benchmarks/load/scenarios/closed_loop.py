"""Clients who wait: one (single-stream), one with several images (multi-stream), many (offline)."""

from benchmarks.load.result import Run
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.session import Session

_MANY = 32  # clients, that fill a small server
_MOST = 1024
_MORE = 1.05  # times as many good images a second, or twice the clients are not worth it


async def single_stream(session: Session, parameters: Parameters, repeat: int) -> None:
    """One image at a time: the latency of a service that has nothing else to do."""
    await session.closed("single-stream", repeat, clients=1)


async def multi_stream(session: Session, parameters: Parameters, repeat: int) -> None:
    """One query at a time of several images, in one request where the form can: their latency together."""
    await session.closed("multi-stream", repeat, clients=1, images_per_query=parameters.images_per_query)


async def offline(session: Session, parameters: Parameters, repeat: int) -> None:
    """As many images a second as the service can answer, whatever the latency."""
    for clients in parameters.clients:
        await session.closed("offline", repeat, clients)


async def capacity(session: Session, repeat: int) -> float:
    """Images a second of 32 clients, or of as many times two as bring 5 % more each time, up to 1024.

    Runs that this repeat had already are not run again. Raises ValueError if there was not one good answer.
    """
    best = await _had_or_run(session, repeat, _MANY)
    if not best.images_per_second:
        raise ValueError(f"{session.target.url}: {_MANY} clients got no good answer, but {best.codes}")
    while (clients := 2 * (best.clients or _MANY)) <= _MOST:
        run = await _had_or_run(session, repeat, clients)
        if run.invalid or run.images_per_second < _MORE * best.images_per_second:
            break
        best = run
    session.findings |= {"capacity": best.images_per_second, "clients at capacity": best.clients}
    return best.images_per_second


async def _had_or_run(session: Session, repeat: int, clients: int) -> Run:
    for run in reversed(session.runs):
        if run.scenario in ("offline", "capacity") and (run.repeat, run.clients) == (repeat, clients):
            return run
    return await session.closed("capacity", repeat, clients)
