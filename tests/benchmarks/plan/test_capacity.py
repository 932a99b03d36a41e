"""What a result says of one pod, and what it does not."""

import pytest

from benchmarks.load.result import ServerSpent
from benchmarks.plan.capacity import find_capacity
from benchmarks.plan.demand import Demand, PlanError
from benchmarks.plan.measured import read_measured
from tests.benchmarks.plan.results import SWEEP, made_result, made_run, made_served


def capacity_of(*runs, p99_ms=200.0):
    return find_capacity(read_measured(made_result(*runs)), p99_ms)


def test_the_highest_rate_that_holds_is_the_capacity() -> None:
    capacity = capacity_of(*SWEEP)
    assert (capacity.rate, capacity.failed.rate) == (300, 400)


def test_a_looser_objective_allows_more() -> None:
    assert capacity_of(*SWEEP, p99_ms=500).rate == 400
    assert capacity_of(*SWEEP, p99_ms=500).failed is None


def test_a_rate_that_holds_by_chance_above_one_that_does_not_is_none() -> None:
    assert capacity_of(made_run(100), made_run(200, p99=300.0), made_run(300)).rate == 100


def test_the_rate_that_the_search_found_counts_like_a_swept_one() -> None:
    assert capacity_of(*SWEEP, made_run(350, scenario="server")).rate == 350


def test_refusing_quickly_is_not_holding() -> None:
    refusing = made_run(300, p99=20.0, codes={"200": 98, "429": 2})
    assert capacity_of(made_run(100), refusing).rate == 100


def test_repeats_count_by_their_median() -> None:
    repeats = [made_run(300, p99=p99, repeat=number) for number, p99 in enumerate((150.0, 190.0, 900.0))]
    assert capacity_of(*repeats).step.p99_ms == 190


def test_invalid_runs_are_left_out_with_their_reason() -> None:
    measured = read_measured(made_result(made_run(100), made_run(200, invalid=["the generator slept"])))
    assert [step.rate for step in measured.steps] == [100]
    assert measured.left_out == ["sweep at 200.0 img/s: the generator slept"]


def test_other_loads_are_no_base() -> None:
    """A search's trials end early; an overload's and a soak's clients are special."""
    others = [made_run(900, scenario=scenario) for scenario in ("search", "overload", "soak")]
    assert [step.rate for step in read_measured(made_result(*SWEEP, *others)).steps] == [100, 200, 300, 400]
    with pytest.raises(PlanError, match="no scenario that a plan can stand on"):
        read_measured(made_result(*others))


def test_clients_who_wait_are_the_last_resort() -> None:
    one = made_run(200, scenario="offline", clients=1)
    many = made_run(350, scenario="offline", clients=32, p99=100.0)
    too_many = made_run(340, scenario="offline", clients=64, p99=220.0)
    measured = read_measured(made_result(too_many, many, one))
    assert not measured.open_loop
    assert find_capacity(measured, 200).rate == 350
    assert read_measured(made_result(many, *SWEEP)).open_loop


def test_figures_between_loads_are_linear() -> None:
    measured = read_measured(made_result(*SWEEP))
    assert measured.at(250, lambda step: step.cores_used) == pytest.approx(1.0)
    assert measured.at(50, lambda step: step.cores_used, at_rest=0.0) == pytest.approx(0.2)
    assert measured.at(1, lambda step: step.decode_seconds) == pytest.approx(0.0005)
    assert measured.at(1, lambda step: step.pass_stretch) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (made_result(), "no runs of '', but of nothing"),
        (made_result(made_run(100, invalid=["late"])), "every run of the result is invalid, such as sweep at 100.0"),
        (made_result(made_run(100), made_run(100, target="other")), "--target says which: mixer, other"),
        (made_result(made_run(100, target="other")), "no pass curve of other"),
        (made_result(made_run(100), served=made_served(cores=1.5)), "on 1.5 cores, and pods get whole ones"),
        (made_result(made_run(100), served=made_served(engine="onnxruntime 1.31.1, CUDA")), "compute on cores"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_base_is_refused_with_its_reason(result, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        read_measured(result)


def test_an_objective_shorter_than_a_pass_is_refused() -> None:
    with pytest.raises(PlanError, match="one pass over one image takes 4 ms already"):
        capacity_of(*SWEEP, p99_ms=4)


def test_an_objective_that_no_rate_held_is_refused() -> None:
    with pytest.raises(PlanError, match=r"the lowest, 100\.0 img/s, took 50 ms at p99"):
        capacity_of(*SWEEP, p99_ms=20)


def test_runs_too_short_to_know_their_p99_are_refused() -> None:
    with pytest.raises(PlanError, match="load it for longer"):
        capacity_of(made_run(100, p99=None))


@pytest.mark.parametrize(
    ("demand", "option"),
    [
        ({"rate": 0}, "--rate 0"),
        ({"rate": -5}, "--rate -5"),
        ({"rate": float("nan")}, "--rate nan"),
        ({"rate": 1, "p99_ms": 0}, "--p99-ms 0"),
        ({"rate": 1, "headroom": 1}, "--headroom 1"),
        ({"rate": 1, "headroom": -0.1}, "--headroom -0.1"),
        ({"rate": 1, "spare": -1}, "--spare -1"),
        ({"rate": 1, "core_price": -1}, "--core-price -1"),
    ],
)
def test_impossible_demands_are_refused_by_their_option(demand: dict[str, float], option: str) -> None:
    with pytest.raises(PlanError, match=option):
        Demand(**demand)


def test_what_a_pod_predicts_is_of_all_its_lanes() -> None:
    served = made_served().model_copy(update={"lanes": 2, "lane_threads": 1})
    assert find_capacity(read_measured(made_result(*SWEEP, served=served)), 200).predicted == 800


def test_passes_are_stretched_as_images_saw_them() -> None:
    """In passes of three, between those of two and of four: 8 ms at the start."""
    server = made_run(100).server.model_copy(update={"mean_batch": 3.0, "infer_seconds": 0.012})
    (step,) = read_measured(made_result(made_run(100, server=server))).steps
    assert step.pass_stretch == pytest.approx(1.5)


def test_a_result_without_the_servers_accounts_says_so() -> None:
    measured = read_measured(made_result(made_run(100, server=ServerSpent())))
    assert measured.peak_memory_bytes is None
    assert measured.at(100, lambda step: step.cores_used) is None
