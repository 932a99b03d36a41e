from typing import Any

import pytest

from service.lanes.shape import COPIES, FRONT_BYTES, LANE_BYTES, WIDE_BYTES, WIDE_COPIES, Shape, choose_shape

MIB = 2**20
GPU = ["CUDAExecutionProvider"]
SMALL, LARGE = MIB, 800 * MIB  # bytes of a model file


def limit(lanes: int, model_bytes: int, models: int = 1, *, wide: bool = False) -> int:
    """The memory limit that `lanes` lanes of each of so many models just fit into, if need be with a second engine."""
    lane = LANE_BYTES + COPIES * model_bytes + wide * (WIDE_BYTES + WIDE_COPIES * model_bytes)
    return FRONT_BYTES + models * lanes * lane


@pytest.mark.parametrize(
    ("cores", "model_bytes", "memory", "settings", "expected"),
    [
        # A lane a core, and all of them for an image that is alone.
        (4, SMALL, None, {}, (4, 1, 4)),
        (4, LARGE, None, {}, (4, 1, 4)),
        (1, SMALL, None, {}, (1, 1, 0)),
        (0.5, SMALL, None, {}, (1, 1, 0)),
        (3.9, SMALL, None, {}, (3, 1, 3)),
        # As many as memory holds, which share out the cores.
        (4, LARGE, limit(4, LARGE), {}, (4, 1, 0)),
        (4, LARGE, limit(4, LARGE) - 1, {}, (3, 1, 0)),
        (4, LARGE, limit(2, LARGE), {}, (2, 2, 0)),
        (4, LARGE, limit(1, LARGE), {}, (1, 4, 0)),
        (5, LARGE, limit(2, LARGE), {}, (2, 2, 0)),
        (4, LARGE, limit(2, LARGE, models=2), {"models": 2}, (2, 2, 0)),
        # An image that is alone has all cores where memory holds a second engine in each lane's share.
        (4, LARGE, limit(4, LARGE, wide=True), {}, (4, 1, 4)),
        (4, LARGE, limit(4, LARGE, wide=True) - 4, {}, (4, 1, 0)),
        (4, LARGE, limit(2, LARGE, models=2, wide=True), {"models": 2, "lanes": 2}, (2, 2, 4)),
        (4, LARGE, limit(2, LARGE), {"models": 2}, (1, 4, 0)),
        # What an operator asks for.
        (4, SMALL, None, {"lanes": 2}, (2, 2, 4)),
        (4, SMALL, None, {"lanes": 3}, (3, 1, 4)),
        (4, SMALL, None, {"threads": 2}, (2, 2, 4)),
        (4, SMALL, None, {"threads": 3}, (1, 3, 0)),
        (4, SMALL, None, {"threads": 4}, (1, 4, 0)),
        (4, SMALL, None, {"lanes": 1, "threads": 1}, (1, 1, 0)),
        (4, SMALL, None, {"lanes": 2, "threads": 1}, (2, 1, 4)),
        (4, LARGE, limit(2, LARGE), {"threads": 1}, (2, 1, 0)),
        (0.5, SMALL, None, {"lanes": 1, "threads": 1}, (1, 1, 0)),
        # On a GPU one after the other.
        (16, LARGE, None, {"providers": GPU}, (1, 1, 0)),
        (16, LARGE, None, {"providers": GPU, "lanes": 2}, (2, 1, 0)),
    ],
)
def test_lanes_share_the_cores_out(
    cores: float, model_bytes: int, memory: int | None, settings: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    shape = choose_shape(cores, model_bytes, memory, **settings)
    assert (shape.lanes, shape.threads, shape.wide_threads) == expected
    assert shape.lanes * shape.threads <= max(1, cores)


def test_lanes_share_the_memory_out() -> None:
    memory = limit(2, LARGE, models=3) + 600 * MIB
    shape = choose_shape(2, LARGE, memory, models=3)
    assert shape.lanes == 2
    assert shape.lane_memory == LANE_BYTES + COPIES * LARGE + 100 * MIB
    assert FRONT_BYTES + 3 * shape.lanes * shape.lane_memory <= memory


def test_without_a_limit_a_lane_may_take_more_than_it_needs() -> None:
    assert choose_shape(2, LARGE, None).lane_memory > 2 * 2**30


@pytest.mark.parametrize(
    "settings", [{"lanes": 2, "threads": 3}, {"lanes": 5}, {"threads": 5}, {"lanes": 5, "threads": 1}]
)
def test_more_than_there_are_cores_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"MIXER_LANES \d times MIXER_THREADS \d exceeds the 4 cores allowed"):
        choose_shape(4, SMALL, None, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("memory", "settings", "told"),
    [
        (limit(1, LARGE) - 1, {}, f"the service with lanes: 1 takes {limit(1, LARGE) // MIB} MiB"),
        (limit(2, LARGE) - 1, {"lanes": 2}, f"the service with lanes: 2 takes {limit(2, LARGE) // MIB} MiB"),
        (limit(1, LARGE), {"models": 2}, f"takes {limit(1, LARGE, 2) // MIB} MiB"),
        (0, {}, "the memory limit of 0 MiB is too little"),
    ],
)
def test_a_limit_that_not_even_one_lane_fits_into_is_refused(memory: int, settings: dict[str, int], told: str) -> None:
    with pytest.raises(MemoryError, match=told):
        choose_shape(4, LARGE, memory, **settings)  # type: ignore[arg-type]


def test_a_shape_is_the_whole_answer() -> None:
    assert choose_shape(2, 0, limit(2, 0)) == Shape(lanes=2, threads=1, wide_threads=0, lane_memory=LANE_BYTES)
