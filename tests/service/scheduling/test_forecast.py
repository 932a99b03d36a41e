import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.forecast import batches
from service.scheduling.order import BatchLimits


def seconds(size: int) -> float:
    """A pass of 10 ms and 5 ms an image."""
    return 0.01 + 0.005 * size


def times(decoding: list[float], free_at: list[float], limit: float = 1.0, suspects: int = 0) -> list[float]:
    """When each is done."""
    played = batches(decoding, suspects, free_at, BatchLimits(4, limit), seconds)
    return [done for start, end, done in played for _ in range(start, end)]


def images(count: int, decode_seconds: float = 0.0) -> list[float]:
    return [decode_seconds] * count


def test_nobody_waits() -> None:
    assert times([], [1.0]) == []


def test_batch_follows_batch_on_one_lane() -> None:
    assert times(images(6), [1.0]) == pytest.approx([1.03] * 4 + [1.05] * 2)


def test_whichever_lane_is_free_first_takes_the_next_batch() -> None:
    assert times(images(12), [1.0, 1.01]) == pytest.approx([1.03] * 4 + [1.04] * 4 + [1.06] * 4)
    assert times(images(8), [5.0, 1.0]) == pytest.approx([1.03] * 4 + [1.06] * 4)


def test_decoding_is_part_of_a_batch() -> None:
    assert times(images(2, 0.1), [0.0]) == pytest.approx([0.22] * 2)


def test_a_batch_that_would_take_too_long_is_two() -> None:
    assert times(images(4, 0.06), [0.0, 0.0], limit=0.25) == pytest.approx([0.205] * 3 + [0.075])
    assert times(images(4, 0.06), [0.0], limit=0.25) == pytest.approx([0.205] * 3 + [0.28])


@given(st.lists(st.sampled_from((0.0, 0.001, 0.01, 0.03)), max_size=30))
def test_batches_are_forecast_as_they_are_served(decoding: list[float]) -> None:
    limits = BatchLimits(4, 0.1)
    served = []
    while (start := sum(served)) < len(decoding):
        served.append(limits.batch_size(decoding, start, 0, seconds)[0])
    assert [end - start for start, end, _ in batches(decoding, 0, [0.0], limits, seconds)] == served


def test_images_that_take_long_are_each_a_batch() -> None:
    assert times(images(3, 0.1), [0.0, 0.0], limit=0.25) == pytest.approx([0.115, 0.115, 0.23])


def test_a_suspect_is_alone() -> None:
    assert times(images(3), [0.0], suspects=1) == pytest.approx([0.015, 0.035, 0.035])
