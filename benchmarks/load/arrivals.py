"""When queries arrive in an open loop."""

import random
from collections.abc import Iterator, Sequence

from benchmarks.load.generator import Query


def poisson(queries: Sequence[Query], rate: float, seed: str) -> Iterator[tuple[float, Query]]:
    """Seconds and query without end: `rate` a second on average, independent of each other, drawn by chance."""
    chance = random.Random(seed)
    at = 0.0
    while True:
        at += chance.expovariate(rate)
        yield at, chance.choice(queries)
