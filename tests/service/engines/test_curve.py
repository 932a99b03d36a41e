import pytest

from service.engines.curve import batch_sizes_up_to, best_batch_size, best_rate


def test_measured_are_the_powers_of_two_and_the_largest() -> None:
    assert batch_sizes_up_to(1) == [1]
    assert batch_sizes_up_to(16) == [1, 2, 4, 8, 16]
    assert batch_sizes_up_to(24) == [1, 2, 4, 8, 16, 24]


def test_no_batch_is_larger_than_pays() -> None:
    assert best_batch_size({1: 0.01, 2: 0.02, 4: 0.04}) == 1
    assert best_batch_size({1: 0.01, 2: 0.015, 4: 0.0297, 8: 0.059}) == 2
    assert best_batch_size({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}) == 8


def test_the_rate_is_that_of_the_best_size() -> None:
    assert best_rate({1: 0.015, 2: 0.020, 8: 0.050}) == pytest.approx(160)
