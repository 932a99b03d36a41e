"""How long passes and decoding take on this machine."""

import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from service.engines.curve import PassSeconds, batch_sizes_up_to
from service.engines.engine import Engine

_ALL_SIZES_UP_TO = 16
_PHOTOGRAPH = (640, 360)  # a usual size on the web


def measure_pass_seconds(engine: Engine, image_size: int, batch_sizes: list[int]) -> PassSeconds:
    """Warm the engine at each batch size, then take the fastest of two passes, or of up to five within 0.2 s.

    A smaller batch takes no longer than a larger one: where it did, the machine paused.
    """

    def fastest(size: int) -> float:
        pixels = np.zeros((size, image_size, image_size, 3), np.uint8)
        return _fastest(lambda: engine.run(pixels))

    measured = {size: fastest(size) for size in batch_sizes}
    return {size: min(seconds for other, seconds in measured.items() if other >= size) for size in measured}


def warm_up(engine: Engine, image_size: int, max_batch_size: int) -> None:
    """Run every batch size that may be asked for (beyond 16 every power of two): the first pass of a size is slow."""
    sizes = {*range(1, min(max_batch_size, _ALL_SIZES_UP_TO) + 1), *batch_sizes_up_to(max_batch_size)}
    for size in sorted(sizes):
        engine.run(np.zeros((size, image_size, image_size, 3), np.uint8))


def measure_decode_seconds(prepare: Callable[[bytes], object]) -> float:
    """Seconds that `prepare` takes for a photograph-like JPEG, on one thread."""
    width, height = _PHOTOGRAPH
    blobs = np.random.default_rng(0).integers(0, 256, (height // 25, width // 25, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(blobs).resize(_PHOTOGRAPH, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return _fastest(lambda: prepare(file.getvalue()))


def _fastest(work: Callable[[], object]) -> float:
    """Do it once unmeasured, then twice, or up to five times within 0.2 s."""
    work()
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < 5 and sum(seconds) < 0.2):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
