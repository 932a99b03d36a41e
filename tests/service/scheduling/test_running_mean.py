import pytest

from service.scheduling.running_mean import RunningMean


def follow(mean: RunningMean, value: float, times: int = 200) -> float:
    for _ in range(times):
        mean.take(value)
    return mean.value


def test_it_follows_what_it_is_given_up_and_down() -> None:
    mean = RunningMean(1.0, least=0.1)
    assert follow(mean, 3.0) == pytest.approx(3.0)
    assert follow(mean, 0.5) == pytest.approx(0.5)


def test_one_odd_value_moves_it_little() -> None:
    mean = RunningMean(1.0, least=0.1)
    mean.take(1e9)
    assert mean.value == pytest.approx(1.3)


def test_it_stays_within_its_bounds() -> None:
    mean = RunningMean(1.0, least=0.5, most=20.0)
    assert follow(mean, 1000.0) == 20.0
    assert follow(mean, 0.0) == 0.5


def test_from_nothing_it_rises_by_what_is_ordinary() -> None:
    mean = RunningMean(0.0, least=0.0, ordinary=0.005)
    mean.take(1e9)
    assert mean.value == pytest.approx(0.002)
    assert follow(mean, 0.05) == pytest.approx(0.05)
    assert follow(mean, 0.0) == pytest.approx(0.0, abs=1e-6)
