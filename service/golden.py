"""Proof that a loaded engine answers as the exported model did, and how fast it does."""

import time
from collections.abc import Callable

import numpy as np

from service.bundle import Bundle
from service.engine import Engine, LogitBatch, PixelBatch
from service.preprocess import Pixels


class GoldenMismatch(Exception):
    """The golden images did not give the logits that the manifest promises."""


class GoldenImages:
    """A bundle's golden images as pixels, with the reference's logits."""

    def __init__(self, bundle: Bundle, prepare: Callable[[bytes], Pixels]) -> None:
        """`prepare` is the service's own encoded bytes -> pixels."""
        images, self._expected = bundle.golden()
        self._tolerance = bundle.manifest.golden.tolerance
        self.pixels: PixelBatch = np.stack([prepare(image) for image in images])

    def check(self, logits: LogitBatch) -> float:
        """Compare logits of the first golden images; returns the largest absolute error.

        Raises GoldenMismatch if it exceeds the manifest's tolerance.
        """
        error = float(np.abs(logits - self._expected[: len(logits)]).max())
        if not error <= self._tolerance:  # a NaN fails too
            raise GoldenMismatch(f"golden logits differ by {error:.3g}, tolerance {self._tolerance:.3g}")
        return error


def measure_pass_seconds(engine: Engine, image_size: int, max_batch_size: int) -> dict[int, float]:
    """Seconds of a pass at each power-of-two batch size up to `max_batch_size` and at that size itself.

    Warms the engine at each size, then takes the fastest of up to five passes within a fifth of a second.
    """
    sizes = sorted({2**power for power in range(max_batch_size.bit_length())} | {max_batch_size})
    curve = {}
    for size in sizes:
        pixels = np.zeros((size, image_size, image_size, 3), np.uint8)
        engine.run(pixels)
        seconds: list[float] = []
        while not seconds or (len(seconds) < 5 and sum(seconds) < 0.2):
            started = time.perf_counter()
            engine.run(pixels)
            seconds.append(time.perf_counter() - started)
        curve[size] = min(seconds)
    return curve
