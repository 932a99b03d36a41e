"""Near capacity for long, with damaged images and clients who hang up: is memory flat, and all accounted for?"""

from benchmarks.load.scenarios.closed_loop import capacity
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.session import Session

_OF_EACH = 98  # queries of a hundred that are ordinary; one is damaged, one hangs up
_PATIENCE = 0.002  # seconds


async def soak(session: Session, parameters: Parameters, repeat: int) -> None:
    """A share of the capacity, or the rate that is given."""
    rate = parameters.rate or parameters.share * await capacity(session, repeat)
    images = session.options.images
    ordinary = session.queries()
    queries = [
        *(query for query in ordinary for _ in range(_OF_EACH)),
        *(session.query([image[: len(image) // 2]]) for image in images),
        *(session.query([image], patience=_PATIENCE) for image in images),
    ]
    run = await session.open("soak", repeat, rate, seconds=parameters.soak_seconds, queries=queries)
    run.server.unsettled_images = await session.unsettled_images()
