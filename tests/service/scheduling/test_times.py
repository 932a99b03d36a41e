import pytest

from service.engines.curve import PassTimes


def test_between_measured_sizes_the_curve_is_straight_and_beyond_it_proportional() -> None:
    times = PassTimes({1: 0.01, 2: 0.016, 4: 0.02})
    assert [times.seconds(size) for size in (1, 2, 3, 4, 8)] == pytest.approx([0.01, 0.016, 0.018, 0.02, 0.04])


def test_passes_that_take_longer_move_the_prediction() -> None:
    times = PassTimes({1: 0.01, 4: 0.02})
    for _ in range(100):
        times.learn(4, 0.04)
    assert times.seconds(1) == pytest.approx(0.02, rel=0.01)
    assert times.seconds(4) == pytest.approx(0.04, rel=0.01)


def test_one_odd_pass_does_not_close_the_door() -> None:
    times = PassTimes({1: 0.01})
    times.learn(1, 1000)
    assert times.seconds(1) <= 0.2
