"""The rate-latency curve and its knee."""

import statistics

from benchmarks.load.result import Run
from benchmarks.load.scenarios.closed_loop import capacity
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.session import Session


async def sweep(session: Session, parameters: Parameters, repeat: int) -> None:
    """Shares of the capacity, one after the other; the same rates in every repeat."""
    if repeat == 0:
        session.findings["sweep capacity"] = await capacity(session, repeat)
    whole = session.findings["sweep capacity"]
    assert isinstance(whole, float)
    for share in parameters.sweep:
        await session.open("sweep", repeat, share * whole)
    session.findings["knee"] = knee([run for run in session.runs if run.scenario == "sweep"])


def knee(runs: list[Run]) -> float | None:
    """The offered rate with the greatest power: good images a second over the latency that half of them take;
    medians of the valid repeats.

    Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer communications" (1979).
    """
    powers: dict[float, list[float]] = {}
    for run in runs:
        if run.latency.p50 and run.offered_images_per_second and not run.invalid:
            power = run.good_images_per_second / run.latency.p50
            powers.setdefault(run.offered_images_per_second, []).append(power)
    return max(powers, key=lambda rate: statistics.median(powers[rate]), default=None)
