"""Many pods behind a Service: what becomes of the images, depending on who balances what.

Pods share nothing, so that each is a queue of its own, given its share of the load; pods with the same share are alike,
and one of each is simulated. Balanced by request, every pod gets the same share: arrivals by chance that are dealt out
by chance are arrivals by chance. Balanced by connection, as a Service does, it gets the load of the connections that
happened to be sent to it, all of them equally busy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.plan.forecast import Simulation

Floats = NDArray[np.float64]

_GRAIN = 0.02  # of the mean share: shares are rounded to it


@dataclass(frozen=True)
class Fleet:
    """What the clients of so many pods see."""

    pods: int
    connections_per_pod: int | None  # None: balanced by request
    busiest: float  # images a second, of the busiest pod
    over_capacity: float  # the share of the images that go to pods with more than their measured capacity
    p99_ms: float | None  # None: not simulated
    refused: float | None  # the share of the images


def load_fleet(
    pods: int,
    rate_per_pod: float,
    capacity: float,
    connections_per_pod: int | None = None,
    simulation: Simulation | None = None,
    seed: int = 0,
) -> Fleet:
    """`rate_per_pod` is the mean, in images a second. Without a simulation only the loads are known."""
    shares = np.ones(pods)
    if connections_per_pod:
        drawn = np.random.default_rng(seed).integers(pods, size=pods * connections_per_pod)
        shares = np.bincount(drawn, minlength=pods) / connections_per_pod
    loads = shares * rate_per_pod
    p99_ms, refused = _simulate(simulation, shares, rate_per_pod) if simulation else (None, None)
    return Fleet(
        pods=pods,
        connections_per_pod=connections_per_pod,
        busiest=float(loads.max()),
        over_capacity=float(loads[loads > capacity].sum() / loads.sum()),
        p99_ms=p99_ms,
        refused=refused,
    )


def _simulate(simulation: Simulation, shares: Floats, rate_per_pod: float) -> tuple[float, float]:
    """Milliseconds at p99, and the share that is refused, of all images together."""
    rounded, alike = np.unique(np.round(shares / _GRAIN) * _GRAIN, return_counts=True)
    parts = rounded * alike / (rounded * alike).sum()  # of the images
    latencies, weights, refused = [], [], 0.0
    for share, part in zip(rounded, parts, strict=True):
        if not part:
            continue
        simulated = simulation.at(float(share * rate_per_pod))
        answered = len(simulated.latencies)
        refused += part * simulated.refused
        latencies.append(simulated.latencies)
        weights.append(np.full(answered, part * (1 - simulated.refused) / answered))
    return 1000 * _quantile(np.concatenate(latencies), np.concatenate(weights), 0.99), float(refused)


def _quantile(values: Floats, weights: Floats, share: float) -> float:
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulated, share * cumulated[-1])])
