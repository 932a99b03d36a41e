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
    """Images a second of 32 clients: of this repeat's offline runs if it had such, else of one now."""
    for run in reversed(session.runs):
        if (run.scenario, run.repeat, run.clients) == ("offline", repeat, _MANY):
            return run.images_per_second
    run = await session.closed("offline", repeat, _MANY)
    return run.images_per_second
