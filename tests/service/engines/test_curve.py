import pytest

from service.engines.curve import batch_sizes_up_to, best_batch_size, best_rate


def test_measured_are_the_powers_of_two_and_the_largest() -> None:
    assert batch_sizes_up_to(1) == [1]
    assert batch_sizes_up_to(16) == [1, 2, 4, 8, 16]
    assert batch_sizes_up_to(24) == [1, 2, 4, 8, 16, 24]


def test_no_batch_is_larger_than_pays() -> None:
    assert best_batch_size({1: 0.1, 2: 0.2, 4: 0.4}) == 1
    assert best_batch_size({1: 0.1, 2: 0.15, 4: 0.297, 8: 0.59}) == 2
    assert best_batch_size({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}) == 8


def test_a_batch_costs_something_besides_its_pass() -> None:
    assert best_batch_size({1: 0.0001, 2: 0.0002, 4: 0.0004, 8: 0.0008}) == 8


def test_the_rate_is_that_of_the_best_size() -> None:
    assert best_rate({1: 0.015, 2: 0.020, 8: 0.050}) == pytest.approx(160)
