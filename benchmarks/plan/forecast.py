"""The simulated pod beside the measured one: how far may the simulation be trusted?"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.plan.capacity import Capacity
from benchmarks.plan.demand import PlanError
from benchmarks.plan.measured import Measured, Step
from benchmarks.plan.simulation import Pod, Simulated, simulate

FACTOR = 2.0  # between a simulated and a measured latency, either way, beyond which the simulation is not trusted


@dataclass(frozen=True)
class Comparison:
    """One measured rate."""

    step: Step
    p50_ms: float  # simulated
    p99_ms: float
    refused: float  # the share

    @property
    def factors(self) -> tuple[float | None, float | None]:
        """Simulated over measured, at p50 and at p99."""
        return _over(self.p50_ms, self.step.p50_ms), _over(self.p99_ms, self.step.p99_ms)

    @property
    def agrees(self) -> bool:
        """Whether both are within the factor."""
        return all(factor is None or 1 / FACTOR <= factor <= FACTOR for factor in self.factors)


class Simulation:
    """The measured pod, played at any rate; each rate once."""

    def __init__(self, measured: Measured, seed: int = 0) -> None:
        self._measured = measured
        self._seed = seed
        self.at = cache(self._at)

    def pod_at(self, rate: float) -> Pod:
        """The measured one in such a load. Raises PlanError if the result lacks what the server spent."""
        served = self._measured.served
        stretch = self._measured.at(rate, lambda step: step.pass_stretch)
        front = self._measured.at(rate, lambda step: step.front_seconds)
        decode = self._measured.at(rate, lambda step: step.decode_seconds)
        if stretch is None or front is None or decode is None:
            raise PlanError("the result does not say what the server spent: load a Mixer service with --metrics-url")
        return Pod(served.pass_seconds, decode, served.lanes, pass_stretch=stretch, front_seconds=front)

    def _at(self, rate: float) -> Simulated:
        return simulate(self.pod_at(rate), rate, seed=self._seed)


def compare(simulation: Simulation, measured: Measured) -> list[Comparison]:
    """At each measured rate; of clients who wait there is none."""
    return [_compare(simulation, step) for step in measured.steps] if measured.open_loop else []


def is_trusted(comparisons: list[Comparison], capacity: Capacity) -> bool:
    """Whether the simulation agrees at every rate up to the capacity."""
    below = [comparison for comparison in comparisons if comparison.step.rate <= capacity.rate]
    return bool(below) and all(comparison.agrees for comparison in below)


def _compare(simulation: Simulation, step: Step) -> Comparison:
    simulated = simulation.at(step.rate)
    p50, p99 = 1000 * np.percentile(simulated.latencies, [50, 99])
    return Comparison(step, float(p50), float(p99), simulated.refused)


def _over(simulated: float, measured: float | None) -> float | None:
    return simulated / measured if measured else None
