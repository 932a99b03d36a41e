"""Start-up calibration: how long passes and decoding take on this machine, and what follows from it."""

import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from service.engines.engine import Engine, RunPass, timed_pass

PassSeconds = dict[int, float]  # batch size: seconds of a pass

_GOOD_ENOUGH = 0.97  # of the best rate: beyond it, larger batches only make their images wait
_ALL_SIZES_UP_TO = 16
_PHOTOGRAPH = (640, 360)  # a usual size on the web


def measure_pass_seconds(
    engine: Engine, image_size: int, batch_sizes: list[int], run_pass: RunPass = timed_pass
) -> PassSeconds:
    """Warm the engine at each batch size, then take the fastest of up to five passes within a fifth of a second."""

    def fastest(size: int) -> float:
        pixels = np.zeros((size, image_size, image_size, 3), np.uint8)
        return _fastest(lambda: run_pass(engine, pixels)[1])

    return {size: fastest(size) for size in batch_sizes}


def warm_up(engine: Engine, image_size: int, max_batch_size: int, run_pass: RunPass = timed_pass) -> None:
    """Run every batch size that may be asked for (beyond 16 every power of two): the first pass of a size is slow."""
    sizes = {*range(1, min(max_batch_size, _ALL_SIZES_UP_TO) + 1), *batch_sizes_up_to(max_batch_size)}
    for size in sorted(sizes):
        run_pass(engine, np.zeros((size, image_size, image_size, 3), np.uint8))


def measure_decode_seconds(prepare: Callable[[bytes], object]) -> float:
    """Seconds that `prepare` takes for a photograph-like JPEG, on one thread."""
    width, height = _PHOTOGRAPH
    blobs = np.random.default_rng(0).integers(0, 256, (height // 25, width // 25, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(blobs).resize(_PHOTOGRAPH, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)

    def seconds() -> float:
        started = time.perf_counter()
        prepare(file.getvalue())
        return time.perf_counter() - started

    return _fastest(seconds)


def batch_sizes_up_to(largest: int) -> list[int]:
    """Powers of two, and `largest` itself."""
    return sorted({2**power for power in range(largest.bit_length())} | {largest})


def best_batch_size(curve: PassSeconds) -> int:
    """The smallest batch size whose rate is within 3 % of the best."""
    best = best_rate(curve)
    return min(size for size, seconds in curve.items() if size / seconds >= _GOOD_ENOUGH * best)


def best_rate(curve: PassSeconds) -> float:
    """Images per second at the best batch size."""
    return max(size / seconds for size, seconds in curve.items())


def _fastest(seconds_of_one: Callable[[], float]) -> float:
    seconds_of_one()
    seconds: list[float] = []
    while not seconds or (len(seconds) < 5 and sum(seconds) < 0.2):
        seconds.append(seconds_of_one())
    return min(seconds)
