"""Clients who wait: one (single-stream), one with several images (multi-stream), many (offline)."""

from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.session import Session

_MANY = 32


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
    """Images a second of 32 clients: of this repeat's offline runs if it had such, else of one now.

    Raises ValueError if there was not one good answer.
    """
    load = ("offline", repeat, _MANY)
    had = [run for run in session.runs if (run.scenario, run.repeat, run.clients) == load]
    run = had[-1] if had else await session.closed(*load)
    if not run.images_per_second:
        raise ValueError(f"{session.target.url}: {_MANY} clients got no good answer, but {run.codes}")
    return run.images_per_second
