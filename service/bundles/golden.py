"""Proof that what is loaded answers as the exported model did."""

from collections.abc import Callable

import numpy as np

from service.arrays import LogitBatch, PixelBatch, Pixels
from service.bundles.bundle import Bundle


class GoldenMismatch(Exception):
    """The golden images did not give the logits that the manifest promises."""


class GoldenImages:
    """A bundle's golden images as pixels, with the reference's logits."""

    def __init__(self, bundle: Bundle, prepare: Callable[[bytes], tuple[Pixels, object]]) -> None:
        """`prepare` makes pixels of an encoded image."""
        images, self._expected = bundle.golden()
        self._tolerance = bundle.manifest.golden.tolerance
        self.pixels: PixelBatch = np.stack([prepare(image)[0] for image in images])

    def prove(self, run: Callable[[PixelBatch], LogitBatch]) -> float:
        """Run all of them; returns the largest absolute error; raises GoldenMismatch beyond the tolerance."""
        error = float(np.abs(run(self.pixels) - self._expected).max())
        if not error <= self._tolerance:  # a NaN fails too
            raise GoldenMismatch(f"golden logits differ by {error:.3g}, tolerance {self._tolerance:.3g}")
        return error
