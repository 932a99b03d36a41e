"""Queries that arrive by chance: the highest rate at which 99 % of them are answered within the objective."""

from collections.abc import Awaitable, Callable
from typing import Literal

from scipy.special import betaincinv

from benchmarks.load.generator import Generator
from benchmarks.load.samples import Samples
from benchmarks.load.scenarios.closed_loop import capacity
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.session import Session

_TAIL = 0.01  # the share of the queries that may miss the objective
_CONFIDENCE = 0.95
_AT_A_GLANCE = 0.999  # the confidence that ends a run early: who looks often is fooled more often
_ENOUGH_QUERIES = 400  # that a run may wait for: 299 without a miss are the fewest that hold
_HIGHEST = 64  # times the capacity of a closed loop
_LONGEST = 6  # windows, for a rate whose verdict stays open
_LONGEST_OF_FEW = 30  # the same, where queries are so rare that they take longer to be enough
_TRIES = 3  # at a rate: an invalid run says nothing, and what disturbed it may have passed
_LOOK_EVERY = 0.25  # seconds
_FIRST_LOOK = 1.0  # seconds: a queue needs some time to build up
_LOWEST = 0.02  # of the capacity: what doesn't hold there is taken not to hold at all

Verdict = Literal["holds", "fails", "open"]


def verdict(missed: int, queries: int, confidence: float = _CONFIDENCE) -> Verdict:
    """Whether 99 % hold the objective, with this confidence (the bound of Clopper and Pearson, 1934)."""
    if not queries:
        return "open"
    # Each side by itself. scipy.stats has the same and takes a second to import.
    low = betaincinv(missed, queries - missed + 1, 1 - confidence) if missed else 0.0
    high = betaincinv(missed + 1, queries - missed, confidence) if missed < queries else 1.0
    if high <= _TAIL:
        return "holds"
    return "fails" if low > _TAIL else "open"


async def server(session: Session, parameters: Parameters, repeat: int) -> None:
    """Find that rate once, then run it in every repeat; or run the rate that is given."""
    if repeat == 0 and not parameters.rate:
        start = await capacity(session, repeat)

        async def trial(rate: float) -> Verdict:
            return await _trial(session, rate)

        rate = await highest_rate(trial, start, parameters.resolution)
        session.findings["server rate"] = rate
        if invalid := sum(run.scenario == "search" and bool(run.invalid) for run in session.runs):
            session.findings["invalid trials"] = invalid  # the limit may be the generator's
    if rate := parameters.rate or session.findings["server rate"]:
        await session.open("server", repeat, rate)


async def highest_rate(trial: Callable[[float], Awaitable[Verdict]], start: float, resolution: float) -> float | None:
    """The highest rate that `trial` says holds, to `resolution` (a share of it); None if even 2 % of `start` fails.

    A rate whose verdict stays open does not hold. It ends at 64 times `start`, whatever holds.
    """
    held: float | None = None
    failed: float | None = None
    rate = start
    while held is None or failed is None or failed / held > 1 + resolution:
        if await trial(rate) == "holds":
            held = rate
        else:
            failed = rate
        if failed is None:
            if rate >= _HIGHEST * start:
                break
            rate = 2 * rate
        elif held is None:
            if rate < _LOWEST * start:
                return None
            rate = rate / 2
        else:
            rate = (held * failed) ** 0.5
    return held


async def _trial(session: Session, rate: float) -> Verdict:
    options = session.options
    windows = min(_LONGEST_OF_FEW, max(_LONGEST, _ENOUGH_QUERIES / rate / options.seconds))
    for _ in range(_TRIES):
        watch = _Watch(options.objective_ms / 1000, options.warmup, options.seconds)
        run = await session.open("search", 0, rate, seconds=windows * options.seconds, enough=watch.enough)
        if not run.invalid:
            return verdict(run.missed, run.queries)
    return "open"


class _Watch:
    """The verdict while a run lasts, from the queries that are done and those that are already too late."""

    def __init__(self, limit: float, start: float, window: float) -> None:
        self._limit, self._start, self._window = limit, start, window  # the warm-up's queries don't count
        self._looked = 0.0
        self._seen = self._queries = self._missed = 0

    def enough(self, generator: Generator) -> bool:
        """Whether the run may end: that it fails can be said early, that it holds takes a whole window."""
        now = generator.clock.now()
        if now < max(self._looked + _LOOK_EVERY, self._start + _FIRST_LOOK):
            return False
        self._looked = now
        late = sum(self._start <= at < now - self._limit for at in tuple(generator.unanswered))
        so_far = self.judge(generator, late)
        return so_far == "fails" or (so_far == "holds" and now >= self._start + self._window)

    def judge(self, generator: Generator, late: int = 0) -> Verdict:
        """Of all that is done, and `late` that is not."""
        fresh = Samples(generator.samples.all[self._seen :]).intended_in(self._start, float("inf"))
        self._seen = len(generator.samples)
        self._queries += len(fresh)
        self._missed += fresh.missed(self._limit)
        return verdict(self._missed + late, self._queries + late, _AT_A_GLANCE)
