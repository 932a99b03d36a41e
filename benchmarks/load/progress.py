"""A run on the terminal while it lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tqdm import tqdm

from benchmarks.load.generator import Generator
from benchmarks.load.samples import OK, quantile_ms

_EVERY = 0.5  # seconds


@asynccontextmanager
async def progress(generator: Generator, seconds: float, title: str, quiet: bool) -> AsyncIterator[None]:
    """A bar over `seconds` with the rate and latency of the last half second, and all that went wrong."""
    if quiet:
        yield
        return
    drawing = asyncio.ensure_future(_draw(generator, round(seconds), title))
    try:
        yield
    finally:
        drawing.cancel()


async def _draw(generator: Generator, seconds: int, title: str) -> None:
    seen = failed = 0
    with tqdm(total=seconds, desc=title, unit="s", leave=False) as bar:
        while True:
            await asyncio.sleep(_EVERY)
            now = generator.clock.now()
            recent = generator.samples.recent(now - _EVERY)
            # Only what is new: a look at all of a long run would hold the generator up.
            fresh = generator.samples.all[seen:]
            seen += len(fresh)
            failed += sum(sample.code != OK for sample in fresh)
            p50 = quantile_ms(recent.latencies(), 50)
            figures = f"{recent.images() / _EVERY:.0f} img/s, p50 {p50:.1f} ms" if p50 else f"{seen - failed} answered"
            bar.n = min(round(now), seconds)
            bar.set_postfix_str(f"{figures}, {failed} failed, {len(generator.unanswered)} unanswered")
