"""Many pods, each a queue of its own."""

import numpy as np
import pytest

from benchmarks.plan.capacity import find_capacity
from benchmarks.plan.fleet import load_fleet
from benchmarks.plan.forecast import Simulation, compare, is_trusted
from benchmarks.plan.measured import Measured, read_measured
from tests.benchmarks.plan.results import SWEEP, made_result, made_run

RATE = 250.0  # images a second and pod, of 300


@pytest.fixture(scope="module")
def measured() -> Measured:
    return read_measured(made_result(*SWEEP))


@pytest.fixture(scope="module")
def simulation(measured: Measured) -> Simulation:
    return Simulation(measured)


def test_balanced_by_request_five_thousand_pods_are_like_one(simulation: Simulation) -> None:
    fleet = load_fleet(5000, RATE, 300, simulation=simulation)
    one = simulation.at(RATE)
    assert fleet.p99_ms == pytest.approx(1000 * np.percentile(one.latencies, 99), rel=0.01)
    assert (fleet.busiest, fleet.over_capacity) == (RATE, 0)


def test_the_fewer_the_connections_the_worse(simulation: Simulation) -> None:
    by_request, many, few = (load_fleet(1000, RATE, 300, each, simulation) for each in (None, 1000, 5))
    assert by_request.busiest < many.busiest < few.busiest
    assert many.over_capacity < 0.01 < few.over_capacity
    assert by_request.p99_ms < few.p99_ms
    assert by_request.refused <= many.refused < few.refused


def test_one_connection_a_pod_is_dealt_out_as_poisson_says() -> None:
    """Of the images 1 / e are on pods that have no other connection; two are beyond capacity."""
    fleet = load_fleet(5000, RATE, 300, 1)
    assert fleet.over_capacity == pytest.approx(1 - np.exp(-1), abs=0.02)


def test_pods_that_get_nothing_do_no_harm(simulation: Simulation) -> None:
    for seed in range(5):
        fleet = load_fleet(2, RATE, 300, 1, simulation, seed)
        assert fleet.busiest in (RATE, 2 * RATE)
        assert (fleet.refused > 0.1) == (fleet.busiest > RATE)


def test_the_simulated_pod_is_held_against_the_measured_one(measured: Measured, simulation: Simulation) -> None:
    """Its 50 ms at p99 are far from the 10 ms and less of a pod as idle as this."""
    comparisons = compare(simulation, measured)
    assert [comparison.step.rate for comparison in comparisons] == [100, 200, 300, 400]
    assert not comparisons[0].agrees
    assert not is_trusted(comparisons, find_capacity(measured, 200))


def test_measured_like_simulated_is_trusted_whatever_happens_beyond_capacity(simulation: Simulation) -> None:
    alike = compare(simulation, read_measured(made_result(*SWEEP)))
    runs = [made_run(one.step.rate, p50=one.p50_ms * 1.3, p99=one.p99_ms * 0.7) for one in alike[:3]]
    measured = read_measured(made_result(*runs, made_run(400, p99=900.0)))
    comparisons = compare(simulation, measured)
    assert [comparison.agrees for comparison in comparisons] == [True, True, True, False]
    assert is_trusted(comparisons, find_capacity(measured, 200))


def test_without_images_that_come_by_chance_there_is_nothing_to_trust() -> None:
    measured = read_measured(made_result(made_run(200, scenario="offline")))
    comparisons = compare(Simulation(measured), measured)
    assert comparisons == []
    assert not is_trusted(comparisons, find_capacity(measured, 200))
